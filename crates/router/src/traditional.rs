//! The `traditional` flavour: routes in categories by the kinds of their rules.
//!
//! Learnt from `kong/router/traditional.lua`. A request is first looked over for the kinds of rules it might fulfil.
//! Then the categories are tried, those with more kinds first, from the one that is just these kinds on if it exists.
//! Within a category the routes that share the request's host, path and so on with the first rule that was seen to fit
//! are tried before all others; this can prefer a route over one that is ordered before it, and is kept.

use std::collections::{BTreeMap, HashMap};

use foldhash::fast::RandomState;
use silverback_entities::Route;
use smallvec::SmallVec;
use uuid::Uuid;

use crate::dots::{prefixes, suffixes};
use crate::index::{Best, Index, scan};
use crate::matcher::{HeaderRule, HostKind, HostRule, Matcher, Paths, Query};
use crate::request::Flavor;
use crate::router::{Entry, Problem, is_served};
use crate::trie::Trie;

const HOST: u8 = 0x10;
const HEADER: u8 = 0x08;
const URI: u8 = 0x04;
const METHOD: u8 = 0x02;
const SNI: u8 = 0x01;

type Lists<K> = HashMap<K, Group, RandomState>;

/// Groups up to this long are checked one by one.
const FEW: usize = 16;

/// Routes of a category that share one host, path or the like, in order.
#[derive(Debug, Default)]
struct Group {
    ranks: Vec<u32>,
    index: Option<Index>,
}

impl Group {
    fn find(&self, matchers: &[Matcher], q: &Query<'_>) -> Best {
        let mut best = Best::NONE;
        match &self.index {
            Some(index) => index.find(matchers, q, &mut best),
            None => scan(&self.ranks, matchers, q, &mut best),
        }
        best
    }
}

/// Gives an index to the long ones among the groups. One as long as the category needs none: the category has it.
fn index_groups<K>(groups: &mut Lists<K>, matchers: &[Matcher], category: usize) {
    for group in groups.values_mut() {
        if group.ranks.len() > FEW && group.ranks.len() < category {
            group.index = Some(Index::build(matchers, &group.ranks));
        }
    }
}

/// What routes of a category are ordered by, the best first.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Order {
    submatch: std::cmp::Reverse<u8>,
    headers: std::cmp::Reverse<usize>,
    regex_priority: std::cmp::Reverse<i64>,
    uri_length: std::cmp::Reverse<usize>,
    /// Of two routes that are alike the older one wins, and of two that are as old the one with the smaller id.
    /// Kong leaves the latter to an unstable sort.
    created_at: i64,
    id: Uuid,
}

impl Order {
    fn of(route: &Route, path: Option<&str>) -> Self {
        let hosts = route.hosts.as_deref();
        let wildcards = || hosts.into_iter().flatten().filter(|h| h.contains('*'));
        let regex = path.is_some_and(|p| p.starts_with('~'));
        let submatch = u8::from(regex)
            | u8::from(hosts.is_some() && wildcards().next().is_none()) << 1
            | u8::from(wildcards().any(|h| HostRule::new(h).port.is_some())) << 2;
        Order {
            submatch: std::cmp::Reverse(submatch),
            headers: std::cmp::Reverse(route.headers.as_ref().map_or(0, BTreeMap::len)),
            regex_priority: std::cmp::Reverse(if regex {
                route.regex_priority.unwrap_or(0)
            } else {
                0
            }),
            uri_length: std::cmp::Reverse(if regex { 0 } else { path.map_or(0, str::len) }),
            created_at: route.created_at,
            id: route.id,
        }
    }
}

/// The routes with the same kinds of rules.
#[derive(Debug, Default)]
struct Category {
    bits: u8,
    /// Number of routes.
    size: usize,
    index: Index,
    by_host: Lists<Box<[u8]>>,
    by_header: Lists<Box<str>>,
    by_uri: Lists<Box<str>>,
    by_method: Lists<Box<str>>,
    by_sni: Lists<Box<str>>,
}

/// The first rules that fit a request, whichever route they are of.
#[derive(Default)]
struct Hits<'r> {
    bits: u8,
    wildcard: Option<&'r str>,
    header: Option<&'r str>,
    uri: Option<&'r str>,
}

/// A wildcard host: its place in the order, its meaning, and as it was written.
type Wildcard = (u32, HostRule, Box<str>);

#[derive(Debug)]
pub(crate) struct Traditional {
    pub(crate) matchers: Vec<Matcher>,
    /// In the order of trying.
    categories: Vec<Category>,
    /// Plain hosts with the ports they are asked for with; `None` is any.
    plain_hosts: HashMap<Box<str>, Vec<Option<u16>>, RandomState>,
    /// By their text.
    wildcards: HashMap<Box<str>, Vec<Wildcard>, RandomState>,
    /// The length of the longest of these texts.
    longest_wildcard: usize,
    /// Names of headers that any route has rules for, with such a rule, the name of the best route first.
    headers: Vec<(Box<str>, u32, usize)>,
    /// Regular expressions of paths in order, as matchers of their own.
    regexes: Vec<Matcher>,
    regex_texts: Vec<Box<str>>,
    regex_index: Index,
    plain_paths: Trie<u32>,
    /// What the trie numbers.
    plain_texts: Vec<Box<str>>,
    methods: HashMap<Box<str>, (), RandomState>,
    snis: HashMap<Box<str>, (), RandomState>,
}

/// A route with one of its paths, ready to be put in order.
type Ranked<'a> = (Order, Matcher, &'a Route, Option<&'a str>);

impl Traditional {
    pub(crate) fn build(entries: &[Entry]) -> Result<Self, Vec<Problem>> {
        let mut ranked: Vec<Ranked<'_>> = Vec::with_capacity(entries.len());
        let mut problems = Vec::new();
        for (i, entry) in entries.iter().enumerate().filter(|(_, e)| is_served(e)) {
            let route = &*entry.route;
            let paths = route.paths.as_deref().unwrap_or_default();
            let paths: Vec<Option<&str>> = if paths.is_empty() {
                vec![None]
            } else {
                paths.iter().map(|p| Some(p.as_str())).collect()
            };
            for path in paths {
                match Matcher::new(i, route, path.as_slice(), Flavor::Traditional) {
                    Ok(m) => ranked.push((Order::of(route, path), m, route, path)),
                    Err(what) => problems.push(Problem {
                        route: route.id,
                        what,
                    }),
                }
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        ranked.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(Self::index(ranked))
    }

    fn index(ranked: Vec<Ranked<'_>>) -> Self {
        let mut matchers = Vec::with_capacity(ranked.len());
        let mut categories: BTreeMap<u8, (Category, Vec<u32>)> = BTreeMap::new();
        let mut plain_hosts: HashMap<Box<str>, Vec<Option<u16>>, RandomState> = HashMap::default();
        let mut wildcards: HashMap<Box<str>, Vec<Wildcard>, RandomState> = HashMap::default();
        let mut wildcard_count = 0;
        let mut headers: Vec<(Box<str>, u32, usize)> = Vec::new();
        let (mut regexes, mut regex_texts) = (Vec::new(), Vec::new());
        let (mut plain_paths, mut plain_texts) = (Vec::new(), Vec::new());
        let (mut methods, mut snis) = (HashMap::default(), HashMap::default());
        for (rank, (_, matcher, route, path)) in ranked.into_iter().enumerate() {
            let rank = rank as u32;
            let bits = kinds(&matcher);
            let (category, ranks) = categories.entry(bits).or_default();
            category.bits = bits;
            ranks.push(rank);
            for host in route.hosts.iter().flatten() {
                list(&mut category.by_host, host.as_bytes(), rank);
                let rule = HostRule::new(host);
                if rule.kind == HostKind::Exact {
                    let ports = plain_hosts.entry(rule.text).or_default();
                    if !ports.contains(&rule.port) {
                        ports.push(rule.port);
                    }
                } else {
                    wildcards.entry(rule.text.clone()).or_default().push((
                        wildcard_count,
                        rule,
                        host.as_str().into(),
                    ));
                    wildcard_count += 1;
                }
            }
            for (i, name) in route
                .headers
                .iter()
                .flatten()
                .map(|(n, _)| n.to_ascii_lowercase())
                .enumerate()
            {
                list(&mut category.by_header, name.as_str(), rank);
                if !headers.iter().any(|(n, _, _)| **n == *name) {
                    headers.push((name.into(), rank, i));
                }
            }
            if let Some(path) = path {
                let text = path.strip_prefix('~').unwrap_or(path);
                list(&mut category.by_uri, text, rank);
                if text.len() == path.len() {
                    plain_paths.push((text.as_bytes().to_vec(), plain_texts.len() as u32));
                    plain_texts.push(text.into());
                } else if let Ok(m) = Matcher::of_path(path, Flavor::Traditional) {
                    // It was parsed before, so there is no error to lose.
                    regexes.push(m);
                    regex_texts.push(text.into());
                }
            }
            for method in &matcher.methods {
                list(&mut category.by_method, &**method, rank);
                methods.insert(method.clone(), ());
            }
            for sni in route.snis.iter().flatten() {
                let sni = if sni.len() > 1 {
                    sni.strip_suffix('.').unwrap_or(sni)
                } else {
                    sni
                };
                list(&mut category.by_sni, sni, rank);
                snis.insert(sni.into(), ());
            }
            matchers.push(matcher);
        }
        let mut categories: Vec<Category> = categories
            .into_values()
            .map(|(mut c, ranks)| {
                c.index = Index::build(&matchers, &ranks);
                c.size = ranks.len();
                index_groups(&mut c.by_host, &matchers, c.size);
                index_groups(&mut c.by_header, &matchers, c.size);
                index_groups(&mut c.by_uri, &matchers, c.size);
                index_groups(&mut c.by_method, &matchers, c.size);
                index_groups(&mut c.by_sni, &matchers, c.size);
                c
            })
            .collect();
        categories.sort_by_key(|c| std::cmp::Reverse((c.bits.count_ones(), c.bits)));
        let all: Vec<u32> = (0..regexes.len() as u32).collect();
        let regex_index = Index::build(&regexes, &all);
        Traditional {
            matchers,
            categories,
            plain_hosts,
            longest_wildcard: wildcards.keys().map(|text| text.len()).max().unwrap_or(0),
            wildcards,
            headers,
            regexes,
            regex_texts,
            regex_index,
            plain_paths: Trie::build(plain_paths),
            plain_texts,
            methods,
            snis,
        }
    }

    pub(crate) fn find(&self, q: &Query<'_>) -> Best {
        let hits = self.look_over(q);
        if hits.bits == 0 {
            return Best::NONE;
        }
        let start = self
            .categories
            .iter()
            .position(|c| c.bits == hits.bits)
            .unwrap_or(0);
        for category in &self.categories[start..] {
            if let Some(group) = category.likely(q, &hits) {
                let best = group.find(&self.matchers, q);
                if best.rank != Best::NONE.rank {
                    return best;
                }
            }
            let mut best = Best::NONE;
            category.index.find(&self.matchers, q, &mut best);
            if best.rank != Best::NONE.rank {
                return best;
            }
        }
        Best::NONE
    }

    fn look_over(&self, q: &Query<'_>) -> Hits<'_> {
        let mut hits = Hits::default();
        let header = self.headers.iter().find(|(_, rank, i)| {
            self.header_rule(*rank, *i)
                .is_some_and(|h| h.sent(q.req.headers).is_some())
        });
        if let Some((name, _, _)) = header {
            hits.header = Some(name);
            hits.bits |= HEADER;
        }
        let plain = self
            .plain_hosts
            .get(q.req.host)
            .is_some_and(|ports| ports.iter().any(|p| p.is_none_or(|p| p == q.scheme_port())));
        if plain {
            hits.bits |= HOST;
        } else if let Some(text) = self.wildcard(q) {
            hits.wildcard = Some(text);
            hits.bits |= HOST;
        }
        let mut best = Best::NONE;
        self.regex_index.find(&self.regexes, q, &mut best);
        hits.uri = match self.regex_texts.get(best.rank as usize) {
            Some(text) => Some(text),
            None => {
                let longest = self.plain_paths.prefixes(q.req.path).first().copied();
                longest.map(|(n, _)| &*self.plain_texts[n as usize])
            }
        };
        if hits.uri.is_some() {
            hits.bits |= URI;
        }
        if self.methods.contains_key(q.req.method) {
            hits.bits |= METHOD;
        }
        if q.req.sni.is_some_and(|sni| self.snis.contains_key(sni)) {
            hits.bits |= SNI;
        }
        hits
    }

    fn header_rule(&self, rank: u32, i: usize) -> Option<&HeaderRule> {
        self.matchers.get(rank as usize)?.headers.get(i)
    }

    /// The first wildcard host that fits.
    fn wildcard(&self, q: &Query<'_>) -> Option<&str> {
        if self.wildcards.is_empty() {
            return None;
        }
        let host = q.req.host;
        let mut best: Option<&Wildcard> = None;
        let longest = self.longest_wildcard;
        for text in suffixes(host, longest).chain(prefixes(host, longest)) {
            for w in self.wildcards.get(text).into_iter().flatten() {
                if best.is_none_or(|b| w.0 < b.0) && w.1.matches(q) {
                    best = Some(w);
                }
            }
        }
        best.map(|w| &*w.2)
    }
}

impl Category {
    /// The shortest of the lists that the hits lead to; but by a header, if there is one.
    fn likely<'s>(&'s self, q: &Query<'_>, hits: &Hits<'_>) -> Option<&'s Group> {
        let mut likely: Option<&'s Group> = None;
        let mut take = |list: Option<&'s Group>| {
            if let Some(list) = list
                && likely.is_none_or(|l| list.ranks.len() < l.ranks.len())
            {
                likely = Some(list);
            }
        };
        if self.bits & HOST != 0 {
            take(match hits.wildcard {
                Some(text) => self.by_host.get(text.as_bytes()),
                None => self.by_host.get(&*raw_host(q)),
            });
        }
        if self.bits & HEADER != 0
            && let Some(list) = hits.header.and_then(|name| self.by_header.get(name))
        {
            return self.worthwhile(list);
        }
        if self.bits & URI != 0 {
            take(hits.uri.and_then(|text| self.by_uri.get(text)));
        }
        if self.bits & METHOD != 0 {
            take(self.by_method.get(q.req.method));
        }
        if self.bits & SNI != 0 {
            take(q.req.sni.and_then(|sni| self.by_sni.get(sni)));
        }
        likely.and_then(|group| self.worthwhile(group))
    }

    /// A group of all routes would be looked through twice.
    fn worthwhile<'s>(&self, group: &'s Group) -> Option<&'s Group> {
        (group.ranks.len() < self.size).then_some(group)
    }
}

fn kinds(m: &Matcher) -> u8 {
    let bit = |present: bool, bit: u8| if present { bit } else { 0 };
    bit(!m.hosts.is_empty(), HOST)
        | bit(!m.headers.is_empty(), HEADER)
        | bit(!matches!(m.paths, Paths::Any), URI)
        | bit(!m.methods.is_empty(), METHOD)
        | bit(!m.snis.is_empty(), SNI)
}

fn list<K, Q>(map: &mut Lists<Box<K>>, key: Q, rank: u32)
where
    K: ?Sized + std::hash::Hash + Eq,
    Q: Into<Box<K>>,
{
    let ranks = &mut map.entry(key.into()).or_default().ranks;
    if ranks.last() != Some(&rank) {
        ranks.push(rank);
    }
}

/// The `Host` header as it was sent.
fn raw_host(q: &Query<'_>) -> SmallVec<[u8; 128]> {
    let mut raw = SmallVec::from_slice(q.req.host.as_bytes());
    if let Some(port) = q.req.host_port {
        raw.push(b':');
        raw.extend_from_slice(itoa::Buffer::new().format(port).as_bytes());
    }
    raw
}
