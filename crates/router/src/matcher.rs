//! The rules of one route, or of one part of it, and whether a request fulfils them.

use std::borrow::Cow;
use std::collections::HashSet;

use foldhash::fast::RandomState;
use http::{HeaderMap, HeaderName, HeaderValue};
use silverback_entities::Route;
use smallvec::SmallVec;

use crate::literal::Pattern;
use crate::request::{Flavor, Request, split_host_port};
use crate::router::Gone;

/// Lists up to this long are searched one by one.
const FEW: usize = 16;

/// Where a host rule has its wildcard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HostKind {
    Exact,
    /// `*.example.com`: `text` is what the host ends with.
    Suffix,
    /// `example.*`: `text` is what the host starts with.
    Prefix,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct HostRule {
    pub(crate) kind: HostKind,
    pub(crate) text: Box<str>,
    pub(crate) port: Option<u16>,
}

impl HostRule {
    pub(crate) fn new(rule: &str) -> Self {
        let (host, port) = split_host_port(rule);
        let (kind, text) = if let Some(rest) = host.strip_prefix('*') {
            (HostKind::Suffix, rest)
        } else if let Some(rest) = host.strip_suffix('*') {
            (HostKind::Prefix, rest)
        } else {
            (HostKind::Exact, host)
        };
        HostRule {
            kind,
            text: text.into(),
            port,
        }
    }

    pub(crate) fn matches(&self, q: &Query<'_>) -> bool {
        let host = q.req.host;
        let text = &*self.text;
        match q.flavor {
            Flavor::TraditionalCompatible => {
                let ok = match self.kind {
                    HostKind::Exact => !host.is_empty() && host == text,
                    HostKind::Suffix => host.ends_with(text) && !host.is_empty(),
                    HostKind::Prefix => host.starts_with(text) && !host.is_empty(),
                };
                ok && self
                    .port
                    .is_none_or(|p| p == q.req.host_port.unwrap_or(q.req.port))
            }
            Flavor::Traditional => match self.kind {
                HostKind::Exact => {
                    host == text && self.port.is_none_or(|p| q.req.host_port == Some(p))
                }
                // The star stands for at least one character, and a port that is not given is the scheme's. In a
                // rule without a port a star at the end may stand for the request's port, so nothing else has to be there.
                HostKind::Suffix => {
                    host.len() > text.len()
                        && host.ends_with(text)
                        && self.port.is_none_or(|p| p == q.scheme_port())
                }
                HostKind::Prefix => {
                    host.starts_with(text)
                        && self
                            .port
                            .is_none_or(|p| p == q.scheme_port() && host.len() > text.len())
                }
            },
        }
    }
}

/// The paths of a part.
#[derive(Debug)]
pub(crate) enum Paths {
    Any,
    Plain(Plain),
    Regex(Vec<Pattern>),
}

/// Plain paths, all of the same length.
#[derive(Debug)]
pub(crate) struct Plain {
    len: u32,
    /// One after the other. A short one lies within the matcher itself.
    few: SmallVec<[u8; 24]>,
    /// In place of `few` when there are many.
    #[expect(clippy::box_collection, reason = "rare, and keeps the matcher small")]
    many: Option<Box<HashSet<Box<[u8]>, RandomState>>>,
}

impl Plain {
    pub(crate) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let many = self.many.iter().flat_map(|m| m.iter());
        self.few
            .chunks_exact(self.len.max(1) as usize)
            .chain(many.map(|p| &**p))
    }

    fn find(&self, path: &[u8]) -> Option<PathHit> {
        let head = path.get(..self.len as usize)?;
        let found = match &self.many {
            None => self.few.chunks_exact(head.len().max(1)).any(|p| p == head),
            Some(many) => many.contains(head),
        };
        found.then_some(PathHit::start(head.len()))
    }
}

#[derive(Debug)]
pub(crate) struct HeaderRule {
    /// The name with underscores, where the rule or the flavour lets it come first; a request with it is judged by it alone.
    underscored: Option<HeaderName>,
    pub(crate) name: Option<HeaderName>,
    /// In lower case.
    pub(crate) values: Vec<Box<str>>,
    pub(crate) patterns: Vec<Pattern>,
}

impl HeaderRule {
    fn new(name: &str, values: &[String], flavor: Flavor) -> Result<Self, String> {
        let lower = name.to_ascii_lowercase();
        let parse = |s: String| HeaderName::from_bytes(s.as_bytes()).ok();
        let underscored = match flavor {
            Flavor::TraditionalCompatible => lower.replace('-', "_"),
            Flavor::Traditional => lower.clone(),
        };
        let underscored = if underscored.contains('_') {
            parse(underscored)
        } else {
            None
        };
        let mut rule = HeaderRule {
            underscored,
            name: parse(lower.replace('_', "-")),
            values: Vec::new(),
            patterns: Vec::new(),
        };
        for value in values {
            match value.strip_prefix("~*") {
                Some(re) if flavor == Flavor::TraditionalCompatible => {
                    rule.patterns
                        .push(Pattern::new(re.to_ascii_lowercase(), true)?);
                }
                Some(re) => {
                    if values.len() == 1 {
                        rule.patterns.push(Pattern::new(re.to_owned(), false)?);
                    }
                    rule.values.push(value.to_ascii_lowercase().into());
                }
                None => rule.values.push(value.to_ascii_lowercase().into()),
            }
        }
        Ok(rule)
    }

    /// The request's values of this header.
    pub(crate) fn sent<'h>(
        &self,
        headers: &'h HeaderMap,
    ) -> Option<http::header::GetAll<'h, HeaderValue>> {
        if let Some(name) = &self.underscored
            && headers.contains_key(name)
        {
            return Some(headers.get_all(name));
        }
        let name = self.name.as_ref()?;
        headers.contains_key(name).then(|| headers.get_all(name))
    }

    pub(crate) fn same_name(&self, other: &HeaderRule) -> bool {
        self.name == other.name && self.underscored == other.underscored
    }

    fn matches(&self, q: &Query<'_>) -> bool {
        let Some(sent) = self.sent(q.req.headers) else {
            return false;
        };
        sent.iter().any(|v| {
            let Some(v) = lower(v.as_bytes(), q.flavor) else {
                return false;
            };
            self.values.iter().any(|w| w.as_bytes() == &*v)
                || self.patterns.iter().any(|p| p.is_match(&v))
        })
    }
}

/// A header value in lower case. Short and plain ones stay on the stack.
pub(crate) fn lower(value: &[u8], flavor: Flavor) -> Option<SmallVec<[u8; 64]>> {
    if flavor == Flavor::TraditionalCompatible && !value.is_ascii() {
        return Some(SmallVec::from_vec(
            std::str::from_utf8(value).ok()?.to_lowercase().into_bytes(),
        ));
    }
    Some(value.iter().map(u8::to_ascii_lowercase).collect())
}

#[derive(Debug)]
pub(crate) enum SniRule {
    Exact(Box<str>),
    Suffix(Box<str>),
    Prefix(Box<str>),
}

impl SniRule {
    fn new(sni: &str, flavor: Flavor) -> Self {
        let full = |s: &str| -> Box<str> {
            if s.len() > 1 {
                s.strip_suffix('.').unwrap_or(s).into()
            } else {
                s.into()
            }
        };
        if flavor == Flavor::TraditionalCompatible {
            if let Some(rest) = sni.strip_prefix('*') {
                return SniRule::Suffix(full(rest));
            }
            if let Some(rest) = sni.strip_suffix('*') {
                return SniRule::Prefix(rest.into());
            }
        }
        SniRule::Exact(full(sni))
    }

    fn matches(&self, sni: &str) -> bool {
        match self {
            SniRule::Exact(s) => sni == &**s,
            SniRule::Suffix(s) => sni.ends_with(&**s),
            SniRule::Prefix(s) => sni.starts_with(&**s),
        }
    }
}

/// The rules of one part. An empty list asks for nothing.
///
/// Among thousands of routes each look at one is a cache miss, so what most routes ask for lies in the first line.
#[derive(Debug)]
#[repr(C, align(64))]
pub(crate) struct Matcher {
    /// Number of the entry this is a part of.
    pub(crate) entry: u32,
    /// Whether there are no rules but those for the path.
    paths_only: bool,
    pub(crate) paths: Paths,
    pub(crate) hosts: Vec<HostRule>,
    /// Exact hosts without a port, when there are many.
    host_set: HashSet<Box<str>, RandomState>,
    pub(crate) methods: Vec<Box<str>>,
    pub(crate) headers: Vec<HeaderRule>,
    pub(crate) snis: Vec<SniRule>,
}

/// A request together with what follows from it.
pub(crate) struct Query<'a> {
    pub(crate) req: &'a Request<'a>,
    pub(crate) flavor: Flavor,
    pub(crate) tls: bool,
    /// Entries that are passed over.
    pub(crate) gone: &'a Gone,
}

impl Query<'_> {
    /// The port in the `Host` header, else the one the scheme has by default.
    pub(crate) fn scheme_port(&self) -> u16 {
        self.req
            .host_port
            .unwrap_or(if self.tls { 443 } else { 80 })
    }
}

/// Where in the path the matched piece lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PathHit {
    pub(crate) start: u32,
    pub(crate) len: u32,
    /// Number of the regular expression among the part's.
    pub(crate) regex: Option<u32>,
}

impl PathHit {
    /// The first so many bytes of the path, which are there: a router knows no path of 4 GiB.
    pub(crate) fn start(len: usize) -> Self {
        PathHit {
            start: 0,
            len: len as u32,
            regex: None,
        }
    }
}

impl Matcher {
    pub(crate) fn new(
        entry: usize,
        route: &Route,
        paths: &[&str],
        flavor: Flavor,
    ) -> Result<Self, String> {
        let hosts: Vec<HostRule> = route
            .hosts
            .iter()
            .flatten()
            .map(|h| HostRule::new(h))
            .collect();
        let host_set = if hosts.len() > FEW {
            hosts
                .iter()
                .filter(|h| h.kind == HostKind::Exact && h.port.is_none())
                .map(|h| h.text.clone())
                .collect()
        } else {
            HashSet::default()
        };
        let mut headers = Vec::new();
        for (name, values) in route.headers.iter().flatten() {
            headers.push(
                HeaderRule::new(name, values, flavor)
                    .map_err(|e| format!("invalid regular expression for header '{name}': {e}"))?,
            );
        }
        let empty = |list: &Option<Vec<String>>| list.as_ref().is_none_or(Vec::is_empty);
        Ok(Matcher {
            entry: entry as u32,
            paths_only: hosts.is_empty()
                && headers.is_empty()
                && empty(&route.methods)
                && empty(&route.snis),
            paths: Paths::new(paths, flavor)?,
            hosts,
            host_set,
            methods: route
                .methods
                .iter()
                .flatten()
                .map(|m| m.as_str().into())
                .collect(),
            headers,
            snis: route
                .snis
                .iter()
                .flatten()
                .map(|s| SniRule::new(s, flavor))
                .collect(),
        })
    }

    /// A matcher that looks at the path only.
    pub(crate) fn of_path(path: &str, flavor: Flavor) -> Result<Self, String> {
        Ok(Matcher {
            entry: 0,
            paths_only: true,
            paths: Paths::new(&[path], flavor)?,
            hosts: Vec::new(),
            host_set: HashSet::default(),
            methods: Vec::new(),
            headers: Vec::new(),
            snis: Vec::new(),
        })
    }

    /// Whether a request fulfils all rules just by its path's beginning with `path`.
    pub(crate) fn is_start(&self, path: &[u8]) -> bool {
        let plain = |p: &Plain| p.iter().any(|p| p == path);
        self.paths_only && matches!(&self.paths, Paths::Plain(p) if plain(p))
    }

    /// Whether all rules are fulfilled. The inner `None` means that the route has no path rule.
    pub(crate) fn check(&self, q: &Query<'_>) -> Option<Option<PathHit>> {
        if self.paths_only {
            return self.paths.find(q.req.path);
        }
        if !self.methods.is_empty() && !self.methods.iter().any(|m| **m == *q.req.method) {
            return None;
        }
        if !self.hosts.is_empty()
            && !self.host_set.contains(q.req.host)
            && !self.hosts.iter().any(|h| h.matches(q))
        {
            return None;
        }
        // A connection in clear text has no server name, and so fulfils any.
        if q.tls
            && !self.snis.is_empty()
            && !q
                .req
                .sni
                .is_some_and(|sni| self.snis.iter().any(|s| s.matches(sni)))
        {
            return None;
        }
        if !self.headers.iter().all(|h| h.matches(q)) {
            return None;
        }
        self.paths.find(q.req.path)
    }
}

impl Paths {
    fn new(paths: &[&str], flavor: Flavor) -> Result<Self, String> {
        let Some(first) = paths.first() else {
            return Ok(Paths::Any);
        };
        if !first.starts_with('~') {
            let many = (paths.len() > FEW)
                .then(|| Box::new(paths.iter().map(|p| p.as_bytes().into()).collect()));
            let few = match many {
                Some(_) => SmallVec::new(),
                None => paths.iter().flat_map(|p| p.bytes()).collect(),
            };
            let len = u32::try_from(first.len()).map_err(|_| "a path of 4 GiB".to_owned())?;
            return Ok(Paths::Plain(Plain { len, few, many }));
        }
        let mut patterns = Vec::with_capacity(paths.len());
        for path in paths {
            let pattern = Pattern::new(
                pattern_source(path, flavor).into_owned(),
                flavor == Flavor::TraditionalCompatible,
            )
            .map_err(|e| format!("invalid regular expression '{path}': {e}"))?;
            patterns.push(pattern);
        }
        Ok(Paths::Regex(patterns))
    }

    fn find(&self, path: &[u8]) -> Option<Option<PathHit>> {
        match self {
            Paths::Any => Some(None),
            Paths::Plain(plain) => plain.find(path).map(Some),
            Paths::Regex(patterns) => patterns.iter().enumerate().find_map(|(i, p)| {
                let (start, len) = p.find(path)?;
                Some(Some(PathHit {
                    start: start as u32,
                    len: len as u32,
                    regex: Some(i as u32),
                }))
            }),
        }
    }
}

/// The expression to compile for a path that starts with `~`.
///
/// Both flavours read a match from the path's start only. The compatible one gets there by a `^` in front, which in
/// `~/a|/b` binds to the first branch alone; the other anchors the whole expression.
fn pattern_source(path: &str, flavor: Flavor) -> Cow<'_, str> {
    let re = &path[1..];
    match flavor {
        Flavor::TraditionalCompatible => Cow::Owned(format!("^{}", re.replace("?<", "?P<"))),
        Flavor::Traditional => Cow::Owned(format!("^(?:{re})")),
    }
}
