//! A radix tree from byte strings to values, read by prefixes.

use smallvec::SmallVec;

const NONE: u32 = u32::MAX;

#[derive(Debug)]
struct Node {
    /// Where the bytes between the parent and this node lie in `Trie::labels`.
    label: (u32, u32),
    /// The children are `children.0 .. children.0 + children.1` of `Trie::nodes`.
    children: (u32, u32),
    value: u32,
}

/// An immutable radix tree. Siblings lie side by side, so that a step touches one run of bytes and one node.
#[derive(Debug)]
pub(crate) struct Trie<V> {
    nodes: Vec<Node>,
    /// The first byte of each node's label.
    firsts: Vec<u8>,
    labels: Vec<u8>,
    values: Vec<V>,
}

impl<V> Trie<V> {
    /// `entries` are in any order; of two with the same key the later one is kept apart and never found,
    /// so callers group by key first.
    pub(crate) fn build(mut entries: Vec<(Vec<u8>, V)>) -> Self {
        entries.sort_by(|a, b| a.0.cmp(&b.0));
        let mut keys = Vec::with_capacity(entries.len());
        let mut values = Vec::with_capacity(entries.len());
        for (key, value) in entries {
            if keys.last() != Some(&key) {
                keys.push(key);
                values.push(value);
            }
        }
        let root = Node {
            label: (0, 0),
            children: (0, 0),
            value: NONE,
        };
        let mut trie = Trie {
            nodes: vec![root],
            firsts: vec![0],
            labels: Vec::new(),
            values,
        };
        trie.fill(0, &keys, 0, 0);
        trie
    }

    /// Hangs `keys`, which all start with the same `depth` bytes, below `node`. `first` is the number of `keys[0]`.
    fn fill(&mut self, node: usize, keys: &[Vec<u8>], first: usize, depth: usize) {
        let mut at = 0;
        if keys.first().is_some_and(|k| k.len() == depth) {
            self.nodes[node].value = first as u32;
            at = 1;
        }
        let mut runs: Vec<(usize, usize)> = Vec::new();
        while at < keys.len() {
            let byte = keys[at][depth];
            let len = keys[at..].partition_point(|k| k[depth] == byte);
            runs.push((at, at + len));
            at += len;
        }
        let start = self.nodes.len();
        self.nodes[node].children = (start as u32, runs.len() as u32);
        let mut depths: SmallVec<[usize; 8]> = SmallVec::new();
        for &(from, to) in &runs {
            // The keys are sorted: what the first and the last share, all share.
            let (a, b) = (&keys[from][depth..], &keys[to - 1][depth..]);
            let shared = a.iter().zip(b).take_while(|(x, y)| x == y).count();
            let at = self.labels.len() as u32;
            self.labels.extend_from_slice(&a[..shared]);
            self.nodes.push(Node {
                label: (at, shared as u32),
                children: (0, 0),
                value: NONE,
            });
            self.firsts.push(a[0]);
            depths.push(depth + shared);
        }
        for (i, &(from, to)) in runs.iter().enumerate() {
            self.fill(start + i, &keys[from..to], first + from, depths[i]);
        }
    }

    /// The values whose keys are prefixes of `path`, the longest key first.
    pub(crate) fn prefixes(&self, path: &[u8]) -> SmallVec<[&V; 16]> {
        let mut found: SmallVec<[&V; 16]> = SmallVec::new();
        let mut rest = path;
        let mut node = &self.nodes[0];
        loop {
            if let Some(v) = self.values.get(node.value as usize) {
                found.push(v);
            }
            let Some(&byte) = rest.first() else { break };
            let (start, len) = (node.children.0 as usize, node.children.1 as usize);
            let Some(i) = memchr::memchr(byte, &self.firsts[start..start + len]) else {
                break;
            };
            node = &self.nodes[start + i];
            let (at, len) = (node.label.0 as usize, node.label.1 as usize);
            match rest.strip_prefix(&self.labels[at..at + len]) {
                Some(r) => rest = r,
                None => break,
            }
        }
        found.reverse();
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn finds_prefixes_longest_first() {
        let keys = ["", "/", "/a", "/a/b", "/a/c", "/abc", "/b"];
        let t = Trie::build(keys.iter().map(|k| (k.as_bytes().to_vec(), *k)).collect());
        let of = |p: &str| {
            t.prefixes(p.as_bytes())
                .into_iter()
                .copied()
                .collect::<Vec<_>>()
        };
        assert_eq!(of("/a/bcd"), ["/a/b", "/a", "/", ""]);
        assert_eq!(of("/ab"), ["/a", "/", ""]);
        assert_eq!(of("x"), [""]);
        assert_eq!(of(""), [""]);
    }

    #[test]
    fn an_empty_tree_finds_nothing() {
        assert!(Trie::<u8>::build(vec![]).prefixes(b"/a").is_empty());
    }

    proptest! {
        #[test]
        fn finds_what_a_scan_finds(keys in prop::collection::btree_set("[ab/]{0,6}", 0..30), path in "[ab/]{0,8}") {
            let t = Trie::build(keys.iter().map(|k| (k.as_bytes().to_vec(), k.clone())).collect());
            let got: Vec<_> = t.prefixes(path.as_bytes()).into_iter().cloned().collect();
            let mut want: Vec<_> = keys.into_iter().filter(|k| path.starts_with(k.as_str())).collect();
            want.sort_by_key(|k| std::cmp::Reverse(k.len()));
            prop_assert_eq!(got, want);
        }
    }
}
