//! A radix tree from byte strings to values, read by prefixes.

use smallvec::SmallVec;

/// What of a node's texts lies within the node.
const INSIDE: usize = 13;

/// The longest label is one byte, which leads to the node, and this many more.
const MOST_TAIL: usize = u8::MAX as usize;

/// With thousands of keys each look at a node is a cache miss, so all that a step asks of one lies in half a line: the value, the
/// rest of its label and the first bytes of its children's.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(32))]
struct Node<V> {
    value: Option<V>,
    /// Where in `Trie::nodes` the children begin; they are in the order of their first bytes.
    children: u32,
    count: u16,
    /// How many bytes of the label follow the one that led here.
    tail: u8,
    /// The tail, then the first bytes of the children; or where in `Trie::texts` these lie, when they are too long.
    texts: [u8; INSIDE],
}

impl<V> Node<V> {
    const EMPTY: Node<V> = Node {
        value: None,
        children: 0,
        count: 0,
        tail: 0,
        texts: [0; INSIDE],
    };
}

/// An immutable radix tree. Values are small and lie within the nodes.
#[derive(Debug)]
pub(crate) struct Trie<V> {
    nodes: Vec<Node<V>>,
    /// Texts that do not fit into their nodes.
    texts: Vec<u8>,
}

impl<V: Copy> Trie<V> {
    /// `entries` are in any order. Of two with the same key one is found, so callers group by key first.
    pub(crate) fn build(mut entries: Vec<(Vec<u8>, V)>) -> Self {
        entries.sort_by(|a, b| a.0.cmp(&b.0));
        entries.dedup_by(|a, b| a.0 == b.0);
        let mut trie = Trie {
            nodes: vec![Node::EMPTY],
            texts: Vec::new(),
        };
        trie.fill(0, &entries, 0..0);
        trie
    }

    /// Makes a node of the keys that begin with the same bytes up to the end of its label, whose tail is that part of theirs.
    fn fill(&mut self, node: usize, entries: &[(Vec<u8>, V)], tail: std::ops::Range<usize>) {
        let depth = tail.end;
        let mut at = 0;
        if let Some((key, value)) = entries.first()
            && key.len() == depth
        {
            self.nodes[node].value = Some(*value);
            at = 1;
        }
        let mut runs: Vec<(usize, usize)> = Vec::new();
        while at < entries.len() {
            let byte = entries[at].0[depth];
            let len = entries[at..].partition_point(|(k, _)| k[depth] == byte);
            runs.push((at, at + len));
            at += len;
        }
        let mut texts = entries
            .first()
            .map_or(Vec::new(), |(key, _)| key[tail.clone()].to_vec());
        texts.extend(runs.iter().map(|&(from, _)| entries[from].0[depth]));
        let start = self.nodes.len();
        self.nodes.resize(start + runs.len(), Node::EMPTY);
        let inside = self.inside(&texts);
        let n = &mut self.nodes[node];
        n.children = start as u32;
        // There are as many as bytes have values, at most; and tails are cut below.
        n.count = runs.len() as u16;
        n.tail = tail.len() as u8;
        n.texts = inside;
        for (i, (from, to)) in runs.into_iter().enumerate() {
            // The keys are sorted: what the first and the last share, all share.
            let rest = depth + 1;
            let (a, b) = (&entries[from].0[rest..], &entries[to - 1].0[rest..]);
            let shared = a.iter().zip(b).take_while(|(x, y)| x == y).count();
            let end = rest + shared.min(MOST_TAIL);
            self.fill(start + i, &entries[from..to], rest..end);
        }
    }

    /// What a node has of its texts.
    fn inside(&mut self, texts: &[u8]) -> [u8; INSIDE] {
        let mut inside = [0; INSIDE];
        if texts.len() <= INSIDE {
            inside[..texts.len()].copy_from_slice(texts);
        } else {
            inside[..4].copy_from_slice(&(self.texts.len() as u32).to_ne_bytes());
            self.texts.extend_from_slice(texts);
        }
        inside
    }

    /// The rest of a node's label, and the first bytes of its children.
    #[inline]
    fn texts<'t>(&'t self, node: &'t Node<V>) -> (&'t [u8], &'t [u8]) {
        let tail = usize::from(node.tail);
        let len = tail + usize::from(node.count);
        let texts = if len <= INSIDE {
            &node.texts[..len]
        } else {
            let [a, b, c, d, ..] = node.texts;
            let at = u32::from_ne_bytes([a, b, c, d]) as usize;
            &self.texts[at..at + len]
        };
        texts.split_at(tail)
    }

    /// The values whose keys are prefixes of `path` with the length of the key, the longest key first.
    pub(crate) fn prefixes(&self, path: &[u8]) -> SmallVec<[(V, usize); 16]> {
        let mut found = SmallVec::new();
        let mut rest = path;
        let mut node = &self.nodes[0];
        loop {
            let (tail, firsts) = self.texts(node);
            let Some(behind) = rest.strip_prefix(tail) else {
                break;
            };
            if let Some(value) = node.value {
                found.push((value, path.len() - behind.len()));
            }
            let Some((byte, behind)) = behind.split_first() else {
                break;
            };
            let Some(i) = memchr::memchr(*byte, firsts) else {
                break;
            };
            rest = behind;
            node = &self.nodes[node.children as usize + i];
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
            let found = t.prefixes(p.as_bytes()).into_iter();
            found
                .map(|(key, len)| {
                    assert_eq!(key.len(), len);
                    key
                })
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

    #[test]
    fn a_node_is_half_a_line() {
        assert_eq!(size_of::<Node<(u32, u32)>>(), 32);
    }

    #[test]
    fn labels_may_be_long_and_children_many() {
        let long = vec![b'x'; 3 * MOST_TAIL];
        let mut keys = vec![long.clone()];
        keys.extend((0..=u8::MAX).map(|b| [&long[..], &[b]].concat()));
        let t = Trie::build((0..).zip(&keys).map(|(n, k)| (k.clone(), n)).collect());
        for (n, key) in (0_u32..).zip(&keys) {
            assert_eq!(t.prefixes(key).first(), Some(&(n, key.len())));
        }
        assert!(t.prefixes(&long[1..]).is_empty());
    }

    proptest! {
        #[test]
        fn finds_what_a_scan_finds(keys in prop::collection::btree_set("[a-p/]{0,1}[ab/]{0,20}", 0..60), path in "[a-p/]{0,1}[ab/]{0,22}") {
            let t = Trie::build(keys.iter().map(|k| (k.as_bytes().to_vec(), k.as_str())).collect());
            let got: Vec<_> = t.prefixes(path.as_bytes()).into_iter().map(|f| f.0).collect();
            let mut want: Vec<_> = keys.iter().map(String::as_str).filter(|k| path.starts_with(k)).collect();
            want.sort_by_key(|k| std::cmp::Reverse(k.len()));
            prop_assert_eq!(got, want);
        }
    }
}
