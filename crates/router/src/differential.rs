//! The router against the oracle, on random routes and requests.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use http::{HeaderMap, HeaderName, HeaderValue};
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use silverback_entities::Route;

use crate::oracle::{entries, find, route};
use crate::{Flavor, Request, Router, split_host_port};

const HOSTS: &[&str] = &[
    "a.test",
    "b.test",
    "x.a.test",
    "a.test:80",
    "a.test:99",
    "*.test",
    "*.a.test",
    "*.test:99",
    "a.*",
    "b.*",
    "x.a.*",
];
const PATHS: &[&str] = &[
    "/",
    "/a",
    "/b",
    "/a/b",
    "/a/c",
    "/ab",
    "/a/b/c",
    "/api/v1",
    "~/a",
    "~/a/\\d+$",
    "~/a/(?<n>\\w+)/x",
    "~/api/v\\d/one$",
    "~/api/v\\d/two$",
    "~/api/v\\d/(one|two)",
    "~/a|/b",
    "~/(?i)A/b",
    "~/.*z",
];
const METHODS: &[&str] = &["GET", "POST", "PUT"];
const SNIS: &[&str] = &["a.test", "b.test.", "*.test", "a.*"];
const HEADERS: &[&str] = &["x-a", "x_b", "X-C"];
const VALUES: &[&str] = &["1", "2", "Yes", "~*^v[0-9]+$"];

fn some(pool: &'static [&'static str], max: usize) -> impl Strategy<Value = Option<Vec<String>>> {
    let list = subsequence(pool, 1..=max)
        .prop_shuffle()
        .prop_map(|l| l.into_iter().map(str::to_owned).collect());
    option::weighted(0.5, list)
}

fn routes(max: usize) -> impl Strategy<Value = Vec<Route>> {
    let headers = btree_map(
        select(HEADERS).prop_map(str::to_owned),
        vec(select(VALUES).prop_map(str::to_owned), 1..3),
        1..3,
    );
    let one = (
        some(HOSTS, 3),
        some(PATHS, 4),
        some(METHODS, 2),
        option::weighted(
            0.2,
            subsequence(SNIS, 1..3).prop_map(|l| l.into_iter().map(str::to_owned).collect()),
        ),
        option::weighted(0.3, headers),
        (-1..3i64, 0..3i64),
    );
    vec(one, 0..max).prop_map(|all| {
        all.into_iter()
            .enumerate()
            .map(
                |(i, (hosts, paths, methods, snis, headers, (regex_priority, created_at)))| {
                    route(i as u64, |r| {
                        (r.hosts, r.paths, r.methods, r.snis) = (hosts, paths, methods, snis);
                        r.headers = headers;
                        r.regex_priority = Some(regex_priority);
                        r.created_at = created_at;
                    })
                },
            )
            .filter(|r| {
                r.hosts.is_some()
                    || r.paths.is_some()
                    || r.methods.is_some()
                    || r.snis.is_some()
                    || r.headers.is_some()
            })
            .collect()
    })
}

/// Many routes that share host and path, so that they are told apart by their other rules.
fn crowded() -> impl Strategy<Value = Vec<Route>> {
    let one = (
        option::of(select(&["1", "2", "3", "yes", "~*v\\d"][..])),
        option::of(select(METHODS)),
        option::of(select(SNIS)),
        select(
            &[
                "/a",
                "~/a/\\w+/x",
                "~/a/\\w+/yy",
                "~/a/.*/zz$",
                "~/a/[xyz/]+",
            ][..],
        ),
    );
    vec(one, 20..120).prop_map(|all| {
        all.into_iter()
            .enumerate()
            .map(|(i, (value, method, sni, path))| {
                route(i as u64, |r| {
                    r.paths = Some(vec![path.to_owned()]);
                    r.headers =
                        value.map(|v| BTreeMap::from([("x-a".to_owned(), vec![v.to_owned()])]));
                    r.methods = method.map(|m| vec![m.to_owned()]);
                    r.snis = sni.map(|s| vec![s.to_owned()]);
                })
            })
            .collect()
    })
}

type Asked = (
    &'static str,
    &'static str,
    &'static str,
    Vec<(&'static str, &'static str)>,
    Option<&'static str>,
    bool,
);

fn asked() -> impl Strategy<Value = Asked> {
    (
        select(&["GET", "POST", "PUT", "DELETE"][..]),
        select(
            &[
                "a.test",
                "b.test",
                "x.a.test",
                "y.x.a.test",
                "A.test",
                ".test",
                "a.test:80",
                "a.test:99",
                "b.test:99",
                "a.com",
                "b.",
                "c",
                "",
            ][..],
        ),
        select(
            &[
                "/",
                "/a",
                "/ab",
                "/a/b",
                "/a/b/c",
                "/a/1",
                "/a/12",
                "/a/1/x",
                "/a/q/x/yy",
                "/a/x/zz",
                "/A/b",
                "/api/v1/one",
                "/api/v2/two",
                "/b/z",
                "/c/b",
                "/a/\u{fc}",
                "*",
            ][..],
        ),
        vec(
            (
                select(&["x-a", "x-b", "x_b", "x_a", "x-c"][..]),
                select(&["1", "2", "3", "yes", "YES", "v1", "x", "1, 2"][..]),
            ),
            0..4,
        ),
        option::of(select(&["a.test", "b.test", "b.test.", "c"][..])),
        any::<bool>(),
    )
}

fn compare(routes: Vec<Route>, asked: &[Asked], flavor: Flavor) {
    let entries = entries(routes);
    let router = Router::build(&entries, flavor).unwrap();
    agree(&router, &entries, &|n| n, asked, flavor);
}

/// Some of the routes change, some go and some come, one after the other; every time the router is amended, and must find what
/// one that was built anew from all of them finds.
fn compare_amended(before: Vec<Route>, after: Vec<Option<Route>>, asked: &[Asked]) {
    let flavor = Flavor::TraditionalCompatible;
    let all = entries(before);
    let base = Router::build(&all, flavor).unwrap();
    let mut gone = Vec::new();
    let mut added = Vec::new();
    for (n, change) in after.into_iter().enumerate() {
        if n < all.len() {
            gone.push(n);
        }
        added.extend(change.map(|r| (n, r)));
        // As they are now: what is left of the base, then the others, with the numbers that the router gives them.
        let newer = entries(added.iter().map(|(_, r)| r.clone()).collect());
        let router = base.amend(&gone, &newer).unwrap().unwrap();
        let left = (0..all.len()).filter(|n| !gone.contains(n));
        let numbers: Vec<usize> = left
            .chain((0..newer.len()).map(|n| all.len() + n))
            .collect();
        let now: Vec<_> = numbers
            .iter()
            .map(|&n| all.get(n).unwrap_or_else(|| &newer[n - all.len()]).clone())
            .collect();
        agree(&router, &now, &|n| numbers[n], asked, flavor);
    }
}

/// `number` says which number the router gives to an entry.
fn agree(
    router: &Router,
    entries: &[crate::Entry],
    number: &dyn Fn(usize) -> usize,
    asked: &[Asked],
    flavor: Flavor,
) {
    for (method, host, path, sent, sni, tls) in asked {
        let mut headers = HeaderMap::new();
        for (name, value) in sent {
            headers.append(
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            );
        }
        let (host, host_port) = split_host_port(host);
        let req = Request {
            method,
            host,
            host_port,
            port: 8000,
            path: path.as_bytes(),
            headers: &headers,
            sni: sni.filter(|_| *tls),
            scheme: if *tls { "https" } else { "http" },
        };
        let got = router.find(&req);
        let got = got.map(|m| {
            (
                m.entry,
                m.matched_path(path.as_bytes())
                    .map(|p| String::from_utf8_lossy(p).into_owned()),
            )
        });
        let want = find(entries, flavor, &req).map(|(n, path)| (number(n), path));
        assert_eq!(got, want, "{flavor:?}\n{req:?}\n{entries:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn compatible_finds_what_the_oracle_finds(routes in routes(60), asked in vec(asked(), 1..12)) {
        compare(routes, &asked, Flavor::TraditionalCompatible);
    }

    #[test]
    fn amended_finds_what_the_oracle_finds(
        before in routes(30),
        after in vec(option::weighted(0.7, routes(2)), 1..12),
        asked in vec(asked(), 1..8),
    ) {
        let after = after.into_iter().enumerate().map(|(n, r)| {
            let mut route = r?.pop()?;
            // An id of its own, or that of the route it takes the place of.
            route.id = before.get(n).map_or_else(|| uuid::Uuid::from_u128(1000 + n as u128), |b| b.id);
            Some(route)
        });
        compare_amended(before.clone(), after.collect(), &asked);
    }

    #[test]
    fn traditional_finds_what_the_oracle_finds(routes in routes(40), asked in vec(asked(), 1..12)) {
        compare(routes, &asked, Flavor::Traditional);
    }

    #[test]
    fn routes_alike_in_host_and_path_are_told_apart(routes in crowded(), asked in vec(asked(), 1..12)) {
        compare(routes.clone(), &asked, Flavor::TraditionalCompatible);
        compare(routes, &asked, Flavor::Traditional);
    }
}
