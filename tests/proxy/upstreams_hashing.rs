//! Upstreams that send the same value of something to the same target.

use std::collections::BTreeSet;

use anyhow::Context as _;
use regex::Regex;
use serde_json::{Value, json};
use silverback_testkit::gateway::{Call, Gateway, Setup};
use silverback_testkit::h1::Response;
use silverback_testkit::upstream::Upstream;

use super::upstreams::{UP, address, make, pair, server, target};
use crate::Outcome;

/// Enough for both targets to have some: that one gets none is as likely as 1 in 2^39.
const VALUES: usize = 40;

/// A gateway with a hashing upstream of two targets, which go when dropped.
struct Bench {
    gateway: Gateway,
    _targets: (Upstream, Upstream),
}

impl Bench {
    async fn new(fields: Value) -> anyhow::Result<Self> {
        Self::with(Setup::new(), fields, "/").await
    }

    async fn with(setup: Setup, fields: Value, path: &str) -> anyhow::Result<Self> {
        let (a, b) = pair().await?;
        let gateway = setup.start().await?;
        make(&gateway, &fields).await?;
        target(&gateway, &address(&a), 100).await?;
        target(&gateway, &address(&b), 100).await?;
        let service = gateway.service_at("s", &format!("http://{UP}"));
        service.paths([path]).create().await?;
        Ok(Self {
            gateway,
            _targets: (a, b),
        })
    }

    fn get(&self, path: &str) -> Call<'_> {
        self.gateway.get(path)
    }

    /// The same value goes to the same target, others to others. `call` is given the value, and something that does not matter.
    async fn tells_apart<'a>(&'a self, call: impl Fn(usize, usize) -> Call<'a>) -> Outcome {
        let mut used = BTreeSet::new();
        for value in 0..VALUES {
            let first = server(call(value, 0)).await?;
            for other in 1..3 {
                assert_eq!(server(call(value, other)).await?, first, "{value}");
            }
            used.insert(first);
        }
        assert_eq!(used.len(), 2, "{used:?}");
        Ok(())
    }

    /// All of these go to the same target.
    async fn takes_for_one<'a>(&'a self, call: impl Fn(usize) -> Call<'a>) -> Outcome {
        let mut used = BTreeSet::new();
        for value in 0..VALUES {
            used.insert(server(call(value)).await?);
        }
        assert_eq!(used.len(), 1, "{used:?}");
        Ok(())
    }
}

#[tokio::test]
async fn by_a_header() -> Outcome {
    for name in ["user", "X-My-Id"] {
        let fields = json!({"hash_on": "header", "hash_on_header": name});
        let bench = Bench::new(fields).await?;
        bench
            .tells_apart(|value, other| {
                bench
                    .get(&format!("/{other}"))
                    .header(&name.to_uppercase(), &value.to_string())
            })
            .await?;
        // Who has none is like all others that have none.
        bench
            .takes_for_one(|value| bench.get(&format!("/{value}")))
            .await?;
    }
    Ok(())
}

#[tokio::test]
async fn by_something_else_when_the_first_is_missing() -> Outcome {
    let fields = json!({
        "hash_on": "header", "hash_on_header": "X-A", "hash_fallback": "header", "hash_fallback_header": "X-B"
    });
    let bench = Bench::new(fields).await?;
    bench
        .tells_apart(|value, other| {
            let call = bench.get("/").header("X-A", &value.to_string());
            call.header("X-B", &other.to_string())
        })
        .await?;
    bench
        .tells_apart(|value, other| {
            let call = bench.get(&format!("/{other}"));
            call.header("X-B", &value.to_string())
        })
        .await?;
    bench
        .takes_for_one(|value| {
            let call = bench.get("/").header("X-B", &value.to_string());
            call.header("X-A", "1")
        })
        .await
}

#[tokio::test]
async fn by_the_clients_address() -> Outcome {
    let setup = Setup::new().set("trusted_ips", "127.0.0.0/8");
    let bench = Bench::with(setup, json!({"hash_on": "ip"}), "/").await?;
    bench
        .tells_apart(|value, other| {
            let call = bench.get(&format!("/{other}"));
            call.header("X-Real-IP", &format!("10.1.2.{value}"))
        })
        .await?;
    bench
        .takes_for_one(|value| bench.get(&format!("/{value}")))
        .await
}

#[tokio::test]
async fn by_the_consumer() -> Outcome {
    let fields = json!({"hash_on": "consumer", "hash_fallback": "path"});
    let bench = Bench::new(fields).await?;
    let config = json!({"anonymous": null});
    bench
        .gateway
        .plugin("/services/s", "key-auth", config)
        .await?;
    for value in 0..VALUES {
        let name = format!("c{value}");
        bench.gateway.consumer(&name, &format!("{name}-1")).await?;
        for key in [0, 2] {
            let body = json!({"key": format!("{name}-{key}")});
            let path = format!("/consumers/{name}/key-auth");
            let made = bench.gateway.admin().post(&path, &body);
            made.expect(201).await?;
        }
    }
    // Each has several keys, and is the same with each.
    bench
        .tells_apart(|value, other| {
            let call = bench.get(&format!("/{other}"));
            call.header("apikey", &format!("c{value}-{other}"))
        })
        .await
}

#[tokio::test]
async fn by_something_else_for_who_is_no_consumer() -> Outcome {
    let fields = json!({"hash_on": "consumer", "hash_fallback": "query_arg", "hash_fallback_query_arg": "user"});
    let bench = Bench::new(fields).await?;
    bench
        .tells_apart(|value, other| bench.get(&format!("/{other}?user={value}")))
        .await
}

#[tokio::test]
async fn by_an_argument_of_the_query() -> Outcome {
    let fields = json!({"hash_on": "query_arg", "hash_on_query_arg": "user"});
    let bench = Bench::new(fields).await?;
    bench
        .tells_apart(|value, other| bench.get(&format!("/{other}?o={other}&user=u%20{value}")))
        .await?;
    bench
        .takes_for_one(|value| bench.get(&format!("/?other={value}")))
        .await
}

#[tokio::test]
async fn by_the_path() -> Outcome {
    let bench = Bench::new(json!({"hash_on": "path"})).await?;
    bench
        .tells_apart(|value, other| bench.get(&format!("/x/{value}?q={other}")))
        .await
}

#[tokio::test]
async fn by_a_part_of_the_path() -> Outcome {
    let fields = json!({"hash_on": "uri_capture", "hash_on_uri_capture": "id"});
    let bench = Bench::with(Setup::new(), fields, "~/u/(?<id>[^/]+)").await?;
    bench
        .tells_apart(|value, other| bench.get(&format!("/u/{value}/{other}?q={other}")))
        .await?;
    let fields = json!({"hash_on": "uri_capture", "hash_on_uri_capture": "1"});
    let bench = Bench::with(Setup::new(), fields, "~/u/([^/]+)").await?;
    bench
        .tells_apart(|value, other| bench.get(&format!("/u/{value}/{other}")))
        .await
}

/// The value of the cookie that was set with these attributes.
fn cookie(answer: &Response, attributes: &str) -> anyhow::Result<String> {
    let all: Vec<_> = answer.headers.all("Set-Cookie").collect();
    let uuid = "[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}";
    let form = Regex::new(&format!("^sid=({uuid}); {attributes}$"))?;
    let found = all.iter().find_map(|value| form.captures(value));
    Ok(found.with_context(|| format!("{all:?}"))?[1].to_owned())
}

const ROOT: &str = "Path=/; Same-Site=Lax; HttpOnly";

#[tokio::test]
async fn by_a_cookie_which_who_has_none_is_given() -> Outcome {
    let fields = json!({"hash_on": "cookie", "hash_on_cookie": "sid"});
    let bench = Bench::new(fields).await?;
    let (mut used, mut given) = (BTreeSet::new(), BTreeSet::new());
    for _ in 0..VALUES {
        let call = bench.get("/").header("X-Echo-Header", "Set-Cookie: own=1");
        let answer = call.expect(200).await?;
        let value = cookie(&answer, ROOT)?;
        // The target's own stays.
        let count = answer.headers.all("Set-Cookie").count();
        assert_eq!(count, 2, "{:?}", answer.headers);
        let first = answer.json()["server"].as_str().unwrap().to_owned();
        for _ in 0..3 {
            let call = bench
                .get("/")
                .header("Cookie", &format!("x=y; sid={value}"));
            let again = call.expect(200).await?;
            assert_eq!(again.json()["server"], first);
            assert_eq!(again.header("Set-Cookie"), None);
        }
        used.insert(first);
        given.insert(value);
    }
    assert_eq!((used.len(), given.len()), (2, VALUES));
    Ok(())
}

#[tokio::test]
async fn a_cookie_has_the_path_of_the_upstream() -> Outcome {
    let fields = json!({"hash_on": "cookie", "hash_on_cookie": "sid", "hash_on_cookie_path": "/p"});
    let bench = Bench::new(fields).await?;
    let answer = bench.get("/").expect(200).await?;
    cookie(&answer, "Path=/p; Same-Site=Lax; HttpOnly")?;
    Ok(())
}

#[tokio::test]
async fn a_cookie_is_given_to_who_lacks_the_header() -> Outcome {
    let fields = json!({
        "hash_on": "header", "hash_on_header": "X-A", "hash_fallback": "cookie", "hash_on_cookie": "sid"
    });
    let bench = Bench::new(fields).await?;
    let call = bench.get("/").header("X-A", "1");
    assert_eq!(call.expect(200).await?.header("Set-Cookie"), None);
    let answer = bench.get("/").expect(200).await?;
    let value = cookie(&answer, ROOT)?;
    let name = answer.json()["server"].as_str().unwrap().to_owned();
    let with = format!("sid={value}");
    for _ in 0..5 {
        let call = bench.get("/").header("Cookie", &with);
        assert_eq!(server(call).await?, name);
    }
    Ok(())
}
