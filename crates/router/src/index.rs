//! From a request to the few matchers it can fulfil.
//!
//! Matchers are numbered by rank, the best first. They are looked up by host, then by the literal start of the path,
//! and where many share both, by header, method, server name or a text that their regular expression needs.
//! Each step gives at least all matchers that fit; every one is checked in full.

use std::collections::HashMap;

use aho_corasick::{AhoCorasick, AhoCorasickKind, Input};
use foldhash::fast::RandomState;
use smallvec::SmallVec;

use crate::dots::{prefixes, suffixes};
use crate::literal::Pattern;
use crate::matcher::{HostKind, Matcher, PathHit, Paths, Query, SniRule, lower};
use crate::trie::Trie;

/// Lists up to this long are checked one by one.
const FEW: usize = 8;

/// Ranks to check one by one, in ascending order; a few of them lie where the list is, not behind a pointer.
type Ranks = SmallVec<[u32; 4]>;

type Map<V> = HashMap<Box<str>, V, RandomState>;

/// The best matcher found so far.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Best {
    pub(crate) rank: u32,
    /// Number of the entry that the matcher is a part of.
    pub(crate) entry: u32,
    pub(crate) hit: Option<PathHit>,
}

impl Best {
    pub(crate) const NONE: Best = Best {
        rank: u32::MAX,
        entry: u32::MAX,
        hit: None,
    };
}

/// An index over some of the matchers of a router.
#[derive(Debug, Default)]
pub(crate) struct Index {
    exact: Map<Bucket>,
    /// By what the host ends with, from a dot on.
    suffix: Map<Bucket>,
    /// By what the host starts with, up to and with a dot.
    prefix: Map<Bucket>,
    /// The length of the longest key of either.
    longest: usize,
    any: Bucket,
}

impl Index {
    /// `ranks` is in ascending order.
    pub(crate) fn build(matchers: &[Matcher], ranks: &[u32]) -> Self {
        let mut exact: HashMap<&str, Vec<u32>, RandomState> = HashMap::default();
        let mut suffix: HashMap<&str, Vec<u32>, RandomState> = HashMap::default();
        let mut prefix: HashMap<&str, Vec<u32>, RandomState> = HashMap::default();
        let mut any = Vec::new();
        for &rank in ranks {
            let m = &matchers[rank as usize];
            if m.hosts.is_empty() {
                any.push(rank);
            }
            for rule in &m.hosts {
                let list = match rule.kind {
                    HostKind::Exact => exact.entry(&rule.text).or_default(),
                    HostKind::Suffix if rule.text.starts_with('.') => {
                        suffix.entry(&rule.text).or_default()
                    }
                    HostKind::Prefix if rule.text.ends_with('.') => {
                        prefix.entry(&rule.text).or_default()
                    }
                    // A wildcard within a label cannot be looked up at the dots.
                    HostKind::Suffix | HostKind::Prefix => &mut any,
                };
                if list.last() != Some(&rank) {
                    list.push(rank);
                }
            }
        }
        let buckets = |map: HashMap<&str, Vec<u32>, RandomState>| -> Map<Bucket> {
            map.into_iter()
                .map(|(k, list)| (k.into(), Bucket::build(matchers, list)))
                .collect()
        };
        let wildcards = suffix.keys().chain(prefix.keys());
        Index {
            longest: wildcards.map(|text| text.len()).max().unwrap_or(0),
            exact: buckets(exact),
            suffix: buckets(suffix),
            prefix: buckets(prefix),
            any: Bucket::build(matchers, any),
        }
    }

    /// Puts the best matching matcher into `best`, if it is better than what is there.
    pub(crate) fn find(&self, matchers: &[Matcher], q: &Query<'_>, best: &mut Best) {
        let host = q.req.host;
        if !self.exact.is_empty()
            && let Some(b) = self.exact.get(host)
        {
            b.find(matchers, q, best);
        }
        if !self.suffix.is_empty() {
            for b in suffixes(host, self.longest).filter_map(|text| self.suffix.get(text)) {
                b.find(matchers, q, best);
            }
        }
        if !self.prefix.is_empty() {
            for b in prefixes(host, self.longest).filter_map(|text| self.prefix.get(text)) {
                b.find(matchers, q, best);
            }
        }
        self.any.find(matchers, q, best);
    }
}

/// The matchers of one host.
#[derive(Debug)]
enum Bucket {
    Few(Ranks),
    Paths(Box<ByPath>),
}

impl Default for Bucket {
    fn default() -> Self {
        Bucket::Few(Ranks::new())
    }
}

impl Bucket {
    fn build(matchers: &[Matcher], ranks: Vec<u32>) -> Self {
        if ranks.len() <= FEW {
            return Bucket::Few(compact(ranks));
        }
        let mut by_path: HashMap<&[u8], Vec<u32>, RandomState> = HashMap::default();
        for &rank in &ranks {
            let mut put = |key| {
                let list: &mut Vec<u32> = by_path.entry(key).or_default();
                if list.last() != Some(&rank) {
                    list.push(rank);
                }
            };
            match &matchers[rank as usize].paths {
                Paths::Any => put(&[]),
                Paths::Plain(plain) => plain.iter().for_each(put),
                Paths::Regex(patterns) => patterns.iter().for_each(|p| put(&p.prefix)),
            }
        }
        let mut sets = Vec::new();
        let mut starts: Vec<(Vec<u8>, Start)> = Vec::with_capacity(by_path.len());
        for (path, list) in by_path {
            starts.push((path.to_vec(), Start::of(matchers, path, list, &mut sets)));
        }
        Bucket::Paths(Box::new(ByPath {
            starts: Trie::build(starts),
            sets,
        }))
    }

    fn find(&self, matchers: &[Matcher], q: &Query<'_>, best: &mut Best) {
        match self {
            Bucket::Few(list) => scan(list, matchers, q, best),
            Bucket::Paths(paths) => paths.find(matchers, q, best),
        }
    }
}

/// Matchers by the literal start of their paths.
#[derive(Debug)]
struct ByPath {
    starts: Trie<Start>,
    sets: Vec<Set>,
}

/// The matchers with one start of path.
#[derive(Debug, Clone, Copy)]
enum Start {
    /// The only one, which asks for nothing but this start: no need to look at the matcher, which is far away.
    Whole { rank: u32, entry: u32 },
    /// Number of the set that they are in.
    Set(u32),
}

impl Start {
    fn of(matchers: &[Matcher], path: &[u8], ranks: Vec<u32>, sets: &mut Vec<Set>) -> Self {
        if let [rank] = *ranks
            && let matcher = &matchers[rank as usize]
            && matcher.is_start(path)
        {
            let entry = matcher.entry;
            return Start::Whole { rank, entry };
        }
        sets.push(Set::build(matchers, ranks, Step::Header));
        Start::Set(sets.len() as u32 - 1)
    }
}

impl ByPath {
    fn find(&self, matchers: &[Matcher], q: &Query<'_>, best: &mut Best) {
        for (start, len) in self.starts.prefixes(q.req.path) {
            match start {
                Start::Whole { rank, entry } => {
                    if rank < best.rank && !q.gone.has(entry) {
                        let hit = Some(PathHit::start(len));
                        *best = Best { rank, entry, hit };
                    }
                }
                Start::Set(n) => self.sets[n as usize].find(matchers, q, best),
            }
        }
    }
}

fn compact(ranks: Vec<u32>) -> Ranks {
    let mut ranks: Ranks = ranks.into_iter().collect();
    ranks.shrink_to_fit();
    ranks
}

/// Checks matchers one by one, as long as they are better than what was found.
pub(crate) fn scan(list: &[u32], matchers: &[Matcher], q: &Query<'_>, best: &mut Best) {
    for &rank in list {
        if rank >= best.rank {
            return;
        }
        let m = &matchers[rank as usize];
        if !q.gone.has(m.entry)
            && let Some(hit) = m.check(q)
        {
            let entry = m.entry;
            *best = Best { rank, entry, hit };
            return;
        }
    }
}

/// The rule that a set of matchers is told apart by. The order is that of trying them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Header,
    Sni,
    Method,
    Needle,
}

impl Step {
    fn next(self) -> Option<Step> {
        match self {
            Step::Header => Some(Step::Sni),
            Step::Sni => Some(Step::Method),
            Step::Method => Some(Step::Needle),
            Step::Needle => None,
        }
    }
}

/// Matchers that are alike in host and start of path.
#[derive(Debug)]
enum Set {
    Scan(Ranks),
    /// By a value of a header. The rank tells which matcher knows how to read the header.
    Header {
        groups: Vec<(u32, usize, Map<Set>)>,
        rest: Box<Set>,
    },
    /// By exact server name; in clear text any name fits, and then all are looked at.
    Sni {
        groups: Map<Set>,
        all: Box<Set>,
        rest: Box<Set>,
    },
    Method {
        groups: Map<Set>,
        rest: Box<Set>,
    },
    /// By a text that the regular expression cannot match without.
    Needle {
        search: AhoCorasick,
        groups: Vec<Box<[u32]>>,
        rest: Box<[u32]>,
    },
}

impl Set {
    fn build(matchers: &[Matcher], ranks: Vec<u32>, step: Step) -> Self {
        if ranks.len() <= FEW {
            return Set::Scan(compact(ranks));
        }
        let at = |rank: u32| &matchers[rank as usize];
        let after = |ranks: Vec<u32>| match step.next() {
            Some(next) => Set::build(matchers, ranks, next),
            None => Set::Scan(compact(ranks)),
        };
        let sets = |map: HashMap<&str, Vec<u32>, RandomState>| -> Map<Set> {
            map.into_iter()
                .map(|(k, list)| (k.into(), after(list)))
                .collect()
        };
        let keyed = |rank: u32| match step {
            Step::Header => at(rank).headers.iter().any(|h| h.patterns.is_empty()),
            Step::Sni => exact_snis(at(rank)).is_some(),
            Step::Method => !at(rank).methods.is_empty(),
            Step::Needle => patterns_with_needles(at(rank)).is_some(),
        };
        let (mine, rest): (Vec<u32>, Vec<u32>) = ranks.iter().partition(|&&r| keyed(r));
        if mine.len() <= FEW {
            return after(ranks);
        }
        match step {
            Step::Header => {
                // One map for each header name, under the first plain header rule of each matcher.
                type Group<'m> = (u32, usize, HashMap<&'m str, Vec<u32>, RandomState>);
                let mut groups: Vec<Group<'_>> = Vec::new();
                for rank in mine {
                    let Some((i, rule)) = at(rank)
                        .headers
                        .iter()
                        .enumerate()
                        .find(|(_, h)| h.patterns.is_empty())
                    else {
                        continue;
                    };
                    let same = |g: &&mut Group<'_>| at(g.0).headers[g.1].same_name(rule);
                    let map = match groups.iter_mut().find(same) {
                        Some(g) => &mut g.2,
                        None => {
                            groups.push((rank, i, HashMap::default()));
                            // Just pushed.
                            let last = groups.len() - 1;
                            &mut groups[last].2
                        }
                    };
                    for value in &rule.values {
                        put(map, value, rank);
                    }
                }
                let groups = groups
                    .into_iter()
                    .map(|(rank, i, map)| (rank, i, sets(map)))
                    .collect();
                Set::Header {
                    groups,
                    rest: Box::new(after(rest)),
                }
            }
            Step::Sni => {
                let mut map = HashMap::default();
                for rank in mine {
                    exact_snis(at(rank))
                        .into_iter()
                        .flatten()
                        .for_each(|s| put(&mut map, s, rank));
                }
                Set::Sni {
                    groups: sets(map),
                    all: Box::new(after(ranks)),
                    rest: Box::new(after(rest)),
                }
            }
            Step::Method => {
                let mut map = HashMap::default();
                for rank in mine {
                    at(rank).methods.iter().for_each(|m| put(&mut map, m, rank));
                }
                Set::Method {
                    groups: sets(map),
                    rest: Box::new(after(rest)),
                }
            }
            Step::Needle => {
                // Of its literals each expression goes by the one that the fewest others have.
                let mut shared: HashMap<&[u8], u32, RandomState> = HashMap::default();
                for needle in mine
                    .iter()
                    .filter_map(|&r| patterns_with_needles(at(r)))
                    .flatten()
                    .flat_map(|p| &p.needles)
                {
                    *shared.entry(needle).or_default() += 1;
                }
                let cost = |n: &&[u8]| (shared.get(n).copied(), std::cmp::Reverse(n.len()));
                let mut map: HashMap<&[u8], Vec<u32>, RandomState> = HashMap::default();
                for rank in mine {
                    for pattern in patterns_with_needles(at(rank)).into_iter().flatten() {
                        let Some(needle) = pattern.needles.iter().map(|n| &**n).min_by_key(cost)
                        else {
                            continue;
                        };
                        let list = map.entry(needle).or_default();
                        if list.last() != Some(&rank) {
                            list.push(rank);
                        }
                    }
                }
                let (texts, groups): (Vec<&[u8]>, Vec<Box<[u32]>>) = map
                    .into_iter()
                    .map(|(k, v)| (k, v.into_boxed_slice()))
                    .unzip();
                match AhoCorasick::builder()
                    .kind(Some(AhoCorasickKind::ContiguousNFA))
                    .build(&texts)
                {
                    Ok(search) => Set::Needle {
                        search,
                        groups,
                        rest: rest.into(),
                    },
                    // Only beyond billions of states.
                    Err(_) => Set::Scan(compact(ranks)),
                }
            }
        }
    }

    fn find(&self, matchers: &[Matcher], q: &Query<'_>, best: &mut Best) {
        match self {
            Set::Scan(list) => scan(list, matchers, q, best),
            Set::Header { groups, rest } => {
                for (rank, i, map) in groups {
                    let rule = &matchers[*rank as usize].headers[*i];
                    for value in rule.sent(q.req.headers).into_iter().flatten() {
                        if let Some(value) = lower(value.as_bytes(), q.flavor)
                            && let Ok(value) = std::str::from_utf8(&value)
                            && let Some(set) = map.get(value)
                        {
                            set.find(matchers, q, best);
                        }
                    }
                }
                rest.find(matchers, q, best);
            }
            Set::Sni { groups, all, rest } => {
                if !q.tls {
                    return all.find(matchers, q, best);
                }
                if let Some(set) = q.req.sni.and_then(|sni| groups.get(sni)) {
                    set.find(matchers, q, best);
                }
                rest.find(matchers, q, best);
            }
            Set::Method { groups, rest } => {
                if let Some(set) = groups.get(q.req.method) {
                    set.find(matchers, q, best);
                }
                rest.find(matchers, q, best);
            }
            Set::Needle {
                search,
                groups,
                rest,
            } => {
                for m in search.find_overlapping_iter(Input::new(q.req.path)) {
                    scan(&groups[m.pattern().as_usize()], matchers, q, best);
                }
                scan(rest, matchers, q, best);
            }
        }
    }
}

fn put<'m>(map: &mut HashMap<&'m str, Vec<u32>, RandomState>, key: &'m str, rank: u32) {
    let list = map.entry(key).or_default();
    if list.last() != Some(&rank) {
        list.push(rank);
    }
}

/// The server names, if there are any and none has a wildcard.
fn exact_snis(m: &Matcher) -> Option<Vec<&str>> {
    if m.snis.is_empty() {
        return None;
    }
    m.snis
        .iter()
        .map(|s| match s {
            SniRule::Exact(s) => Some(&**s),
            SniRule::Suffix(_) | SniRule::Prefix(_) => None,
        })
        .collect()
}

/// The regular expressions, if there are any and each has a literal that it cannot match without.
fn patterns_with_needles(m: &Matcher) -> Option<&[Pattern]> {
    match &m.paths {
        Paths::Regex(patterns) if patterns.iter().all(|p| !p.needles.is_empty()) => Some(patterns),
        _ => None,
    }
}
