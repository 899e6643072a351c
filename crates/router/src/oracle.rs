//! What the tests compare the router with: Kong's rules, evaluated route by route without any index.

#![allow(clippy::unwrap_used)]

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use regex::Regex;
use silverback_entities::{PathHandling, Protocol, Route};
use uuid::Uuid;

use crate::priority::{Priority, parts};
use crate::{Entry, Flavor, Request, split_host_port};

pub(crate) fn strings(list: &[&str]) -> Option<Vec<String>> {
    Some(list.iter().map(|s| (*s).to_owned()).collect())
}

pub(crate) fn header(name: &str, values: &[&str]) -> Option<BTreeMap<String, Vec<String>>> {
    Some(BTreeMap::from([(
        name.to_owned(),
        values.iter().map(|s| (*s).to_owned()).collect(),
    )]))
}

/// A route with Kong's defaults and the id 00000002-0000-4000-8000-<n>.
pub(crate) fn route(n: u64, change: impl FnOnce(&mut Route)) -> Route {
    let mut r = Route {
        id: Uuid::from_u128(0x0000_0002_0000_4000_8000_0000_0000_0000 | u128::from(n)),
        created_at: 0,
        updated_at: 0,
        name: None,
        protocols: vec![Protocol::Http, Protocol::Https],
        https_redirect_status_code: 426,
        strip_path: true,
        preserve_host: false,
        request_buffering: true,
        response_buffering: true,
        tags: None,
        service: None,
        snis: None,
        sources: None,
        destinations: None,
        methods: None,
        hosts: None,
        paths: None,
        headers: None,
        regex_priority: Some(0),
        path_handling: Some(PathHandling::V0),
    };
    change(&mut r);
    r
}

pub(crate) fn entries(routes: Vec<Route>) -> Vec<Entry> {
    routes
        .into_iter()
        .map(|r| Entry {
            route: Arc::new(r),
            service: None,
        })
        .collect()
}

/// The entry and the matched piece of the path, if the route has a path.
pub(crate) type Found = Option<(usize, Option<String>)>;

pub(crate) fn find(entries: &[Entry], flavor: Flavor, req: &Request<'_>) -> Found {
    match flavor {
        Flavor::TraditionalCompatible => compat(entries, req),
        Flavor::Traditional => traditional(entries, req),
    }
}

thread_local! {
    static COMPILED: RefCell<HashMap<String, Regex>> = RefCell::default();
}

fn compiled(source: &str) -> Regex {
    COMPILED.with_borrow_mut(|c| {
        c.entry(source.to_owned())
            .or_insert_with(|| Regex::new(source).unwrap())
            .clone()
    })
}

fn list(l: &Option<Vec<String>>) -> &[String] {
    l.as_deref().unwrap_or_default()
}

/// All parts of all routes, each expression evaluated as `get_expression` of Kong's `transform.lua` writes it.
fn compat(entries: &[Entry], req: &Request<'_>) -> Found {
    let path = std::str::from_utf8(req.path);
    let mut best: Option<(Priority, usize, Option<String>)> = None;
    for (i, e) in entries.iter().enumerate() {
        let r = &*e.route;
        for part in parts(r) {
            if path.is_err() && entries.iter().any(|e| !list(&e.route.paths).is_empty()) {
                return None;
            }
            let priority = Priority::of(r, &part);
            if best.as_ref().is_some_and(|(p, _, _)| *p > priority) || !compat_conditions(r, req) {
                continue;
            }
            let mut matched = None;
            if !part.paths.is_empty() {
                let path = path.unwrap();
                matched = part.paths.iter().find_map(|p| match p.strip_prefix('~') {
                    Some(re) => compiled(&format!("^{}", re.replace("?<", "?P<")))
                        .find(path)
                        .map(|m| m.as_str().to_owned()),
                    None => path.starts_with(p).then(|| (*p).to_owned()),
                });
                if matched.is_none() {
                    continue;
                }
            }
            best = Some((priority, i, matched));
        }
    }
    best.map(|(_, i, m)| (i, m))
}

fn compat_conditions(r: &Route, req: &Request<'_>) -> bool {
    if !list(&r.snis).is_empty() && req.scheme == "https" {
        let sni = req.sni.unwrap_or("\0");
        let ok = list(&r.snis).iter().any(|s| {
            if let Some(x) = s.strip_prefix('*') {
                sni.ends_with(x.strip_suffix('.').unwrap_or(x))
            } else if let Some(x) = s.strip_suffix('*') {
                sni.starts_with(x)
            } else {
                sni == s.strip_suffix('.').unwrap_or(s)
            }
        });
        if !ok {
            return false;
        }
    }
    if !list(&r.methods).is_empty() && !list(&r.methods).iter().any(|m| m == req.method) {
        return false;
    }
    if !list(&r.hosts).is_empty() {
        let ok = list(&r.hosts).iter().any(|h| {
            let (h, port) = split_host_port(h);
            let host_ok = if let Some(x) = h.strip_prefix('*') {
                req.host.ends_with(x)
            } else if let Some(x) = h.strip_suffix('*') {
                req.host.starts_with(x)
            } else {
                req.host == h
            };
            host_ok
                && !req.host.is_empty()
                && port.is_none_or(|p| p == req.host_port.unwrap_or(req.port))
        });
        if !ok {
            return false;
        }
    }
    r.headers.iter().flatten().all(|(name, values)| {
        sent(req, &name.to_ascii_lowercase().replace('-', "_"))
            .iter()
            .any(|v| {
                values.iter().any(|w| match w.strip_prefix("~*") {
                    Some(re) => compiled(&re.to_ascii_lowercase()).is_match(&v.to_lowercase()),
                    None => v.to_lowercase() == w.to_ascii_lowercase(),
                })
            })
    })
}

fn sent(req: &Request<'_>, name: &str) -> Vec<String> {
    let all = |n: &str| {
        req.headers
            .get_all(n)
            .iter()
            .filter_map(|v| v.to_str().ok().map(str::to_owned))
            .collect::<Vec<_>>()
    };
    let exact = all(name);
    if exact.is_empty() {
        all(&name.replace('_', "-"))
    } else {
        exact
    }
}

/// One route with one path, as `marshall_route` of Kong's `traditional.lua` makes it.
struct Marshalled {
    entry: usize,
    route: Route,
    bits: u32,
    submatch: u32,
    uri: Option<String>,
}

/// A wildcard host as the regular expression Kong makes of it.
fn wildcard(h: &str) -> Regex {
    let (_, port) = split_host_port(h);
    let tail = if port.is_none() { r"(?::\d+)?$" } else { "$" };
    compiled(&format!(
        "^(?:{}{tail})",
        h.replace('.', r"\.").replace('*', ".+")
    ))
}

fn traditional(entries: &[Entry], req: &Request<'_>) -> Found {
    let path = String::from_utf8_lossy(req.path).into_owned();
    let default_port = if req.scheme == "https" { 443 } else { 80 };
    let raw = req
        .host_port
        .map_or(req.host.to_owned(), |p| format!("{}:{p}", req.host));
    let with_port = format!("{}:{}", req.host, req.host_port.unwrap_or(default_port));

    let mut all = Vec::new();
    for (i, e) in entries.iter().enumerate() {
        let r = &*e.route;
        let paths: Vec<Option<String>> = if list(&r.paths).is_empty() {
            vec![None]
        } else {
            list(&r.paths).iter().cloned().map(Some).collect()
        };
        for uri in paths {
            let wild: Vec<&String> = list(&r.hosts).iter().filter(|h| h.contains('*')).collect();
            let mut submatch = 0;
            if uri.as_ref().is_some_and(|u| u.starts_with('~')) {
                submatch |= 1;
            }
            if r.hosts.is_some() && wild.is_empty() {
                submatch |= 2;
            }
            if wild.iter().any(|h| split_host_port(h).1.is_some()) {
                submatch |= 4;
            }
            let bits = u32::from(!list(&r.hosts).is_empty()) << 6
                | u32::from(r.headers.as_ref().is_some_and(|h| !h.is_empty())) << 5
                | u32::from(uri.is_some()) << 4
                | u32::from(!list(&r.methods).is_empty()) << 3
                | u32::from(!list(&r.snis).is_empty()) << 2;
            all.push(Marshalled {
                entry: i,
                route: r.clone(),
                bits,
                submatch,
                uri,
            });
        }
    }
    all.sort_by(|a, b| {
        let regex = a.submatch & 1 != 0;
        let headers = |m: &Marshalled| m.route.headers.as_ref().map_or(0, BTreeMap::len);
        let length = |m: &Marshalled| {
            m.uri
                .as_ref()
                .filter(|u| !u.starts_with('~'))
                .map_or(0, String::len)
        };
        b.submatch
            .cmp(&a.submatch)
            .then(headers(b).cmp(&headers(a)))
            .then(if regex {
                b.route.regex_priority.cmp(&a.route.regex_priority)
            } else {
                std::cmp::Ordering::Equal
            })
            .then(length(b).cmp(&length(a)))
            .then(a.route.created_at.cmp(&b.route.created_at))
            .then(a.route.id.cmp(&b.route.id))
    });

    // What the request might fulfil.
    let mut category = 0;
    let mut names: Vec<String> = Vec::new();
    for m in &all {
        for n in m
            .route
            .headers
            .iter()
            .flatten()
            .map(|(n, _)| n.to_ascii_lowercase())
        {
            if !names.contains(&n) {
                names.push(n);
            }
        }
    }
    let hit_header = names.into_iter().find(|n| !sent(req, n).is_empty());
    category |= u32::from(hit_header.is_some()) << 5;
    let hosts = || all.iter().flat_map(|m| list(&m.route.hosts));
    let mut hit_host = None;
    if hosts().any(|h| !h.contains('*') && (*h == with_port || h == req.host)) {
        category |= 1 << 6;
    } else if let Some(h) = hosts().find(|h| h.contains('*') && wildcard(h).is_match(&with_port)) {
        hit_host = Some(h.clone());
        category |= 1 << 6;
    }
    let anchored = |u: &str| compiled(&format!("^(?:{})", &u[1..]));
    let uris = || all.iter().filter_map(|m| m.uri.as_deref());
    let mut hit_uri: Option<String> = uris()
        .find(|u| u.starts_with('~') && anchored(u).is_match(&path))
        .map(|u| u[1..].to_owned());
    if hit_uri.is_none() {
        hit_uri = uris()
            .filter(|u| !u.starts_with('~') && path.starts_with(*u))
            .max_by_key(|u| u.len())
            .map(str::to_owned);
    }
    category |= u32::from(hit_uri.is_some()) << 4;
    category |= u32::from(
        all.iter()
            .any(|m| list(&m.route.methods).iter().any(|x| x == req.method)),
    ) << 3;
    let sni = req.sni.unwrap_or("");
    let bare = |s: &str| s.strip_suffix('.').unwrap_or(s).to_owned();
    category |= u32::from(
        all.iter()
            .any(|m| list(&m.route.snis).iter().any(|x| bare(x) == sni)),
    ) << 2;
    if category == 0 {
        return None;
    }

    let matches = |m: &Marshalled| -> Option<Option<String>> {
        let r = &m.route;
        if !list(&r.hosts).is_empty() {
            let key = hit_host.as_ref().unwrap_or(&raw);
            let ok = list(&r.hosts).iter().any(|h| {
                h == key || h == req.host || (h.contains('*') && wildcard(h).is_match(&with_port))
            });
            if !ok {
                return None;
            }
        }
        for (name, values) in r.headers.iter().flatten() {
            let ok = sent(req, &name.to_ascii_lowercase())
                .iter()
                .map(|v| v.to_ascii_lowercase())
                .any(|v| {
                    values.iter().any(|w| w.to_ascii_lowercase() == v)
                        || (values.len() == 1
                            && values[0]
                                .strip_prefix("~*")
                                .is_some_and(|re| compiled(re).is_match(&v)))
                });
            if !ok {
                return None;
            }
        }
        if !list(&r.methods).is_empty() && !list(&r.methods).iter().any(|x| x == req.method) {
            return None;
        }
        if !list(&r.snis).is_empty()
            && req.scheme != "http"
            && !list(&r.snis).iter().any(|x| bare(x) == sni)
        {
            return None;
        }
        match &m.uri {
            None => Some(None),
            Some(u) if u.starts_with('~') => {
                anchored(u).find(&path).map(|x| Some(x.as_str().to_owned()))
            }
            Some(u) => path.starts_with(u.as_str()).then(|| Some(u.clone())),
        }
    };

    let mut order: Vec<u32> = all.iter().map(|m| m.bits).collect();
    order.sort_by_key(|b| std::cmp::Reverse((b.count_ones(), *b)));
    order.dedup();
    let start = order.iter().position(|b| *b == category).unwrap_or(0);
    for &bits in &order[start..] {
        let members: Vec<&Marshalled> = all.iter().filter(|m| m.bits == bits).collect();
        let mut reduced: Option<Vec<&Marshalled>> = None;
        for rule in [6, 5, 4, 3, 2] {
            if bits & (1 << rule) == 0 {
                continue;
            }
            let found: Vec<&Marshalled> = members
                .iter()
                .copied()
                .filter(|m| match rule {
                    6 => list(&m.route.hosts).contains(hit_host.as_ref().unwrap_or(&raw)),
                    5 => m
                        .route
                        .headers
                        .iter()
                        .flatten()
                        .any(|(n, _)| Some(n.to_ascii_lowercase()) == hit_header),
                    4 => {
                        m.uri.as_ref().map(|u| u.strip_prefix('~').unwrap_or(u))
                            == hit_uri.as_deref()
                    }
                    3 => list(&m.route.methods).iter().any(|x| x == req.method),
                    _ => list(&m.route.snis).iter().any(|x| bare(x) == sni),
                })
                .collect();
            if found.is_empty() {
                continue;
            }
            if rule == 5 {
                reduced = Some(found);
                break;
            }
            if reduced.as_ref().is_none_or(|r| found.len() < r.len()) {
                reduced = Some(found);
            }
        }
        for m in reduced.unwrap_or_default().into_iter().chain(members) {
            if let Some(matched) = matches(m) {
                return Some((m.entry, matched));
            }
        }
    }
    None
}
