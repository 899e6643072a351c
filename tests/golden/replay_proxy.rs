//! The proxy, block by block.
//!
//! `Server` and `Via` may name either product; the echo upstream's answer counts with its headers as a set; counters that depend
//! on the clock only have to be there.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use regex::Regex;
use serde_json::{Value, json};
use silverback_testkit::gateway::{Endpoint, Gateway, Setup};
use silverback_testkit::h1::Response;
use silverback_testkit::ports::free_port;
use silverback_testkit::upstream::Upstream;

use super::compare::{Comparison, Map};
use super::{Score, lines};
use crate::Outcome;

/// What depends on the moment, or on the connection.
const ANY: [&str; 10] = [
    "date",
    "x-kong-admin-latency",
    "x-kong-upstream-latency",
    "x-kong-proxy-latency",
    "x-kong-response-latency",
    "x-kong-request-id",
    "connection",
    "keep-alive",
    "content-length",
    "transfer-encoding",
];
static CLOCK: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"^(ratelimit-reset|retry-after|age|expires|last-modified|etag|set-cookie|.*remaining.*|sec-websocket-accept)$")
        .unwrap()
});
static PRODUCT: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"\b(kong|silverback)/[\d.]+(-\w+)?").unwrap());
static ID: LazyLock<Regex> = LazyLock::new(|| Regex::new("[0-9a-f]{32}").unwrap());
static FORM: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"^[^=&\s]+=[^=&]*(&[^=&\s]+=[^=&]*)*$").unwrap());

/// A node and the two upstreams that the recording had on ports 19000 and 19001; nobody listens on 19009.
struct Bench {
    gateway: Gateway,
    plain: Endpoint,
    tls: Endpoint,
    _upstreams: [Upstream; 2],
    ports: [u16; 3],
}

impl Bench {
    async fn new(setup: Setup) -> anyhow::Result<Self> {
        let upstreams = [
            Upstream::named("echo19000").await?,
            Upstream::named("echo19001").await?,
        ];
        let gateway = setup.tls().start().await?;
        let ports = [
            upstreams[0].addr().port(),
            upstreams[1].addr().port(),
            free_port()?,
        ];
        Ok(Self {
            plain: gateway.proxy(),
            tls: gateway.tls(),
            gateway,
            _upstreams: upstreams,
            ports,
        })
    }

    /// The recording with the ports of this bench.
    fn localised(&self, mut text: String) -> String {
        for (recorded, port) in ["19000", "19001", "19009"].iter().zip(self.ports) {
            text = text
                .replace(
                    &format!("127.0.0.1:{recorded}"),
                    &format!("127.0.0.1:{port}"),
                )
                .replace(&format!("\"port\":{recorded}"), &format!("\"port\":{port}"));
        }
        text
    }

    async fn wipe(&self) -> anyhow::Result<()> {
        let admin = self.gateway.admin();
        for collection in ["plugins", "routes", "services", "consumers"] {
            loop {
                let rows = admin
                    .get(&format!("/{collection}?size=1000"))
                    .send()
                    .await?
                    .json();
                let rows = rows["data"].as_array().cloned().unwrap_or_default();
                if rows.is_empty() {
                    break;
                }
                for row in rows {
                    let path = format!("/{collection}/{}", row["id"].as_str().unwrap_or_default());
                    admin.delete(&path).expect(204).await?;
                }
            }
        }
        Ok(())
    }

    /// Sends what was recorded, with what was generated here in place of what was generated there; `None` when the answer is not HTTP.
    async fn send(&self, exchange: &Value, map: &Map) -> anyhow::Result<Option<Response>> {
        let mut endpoint = match (exchange["to"].as_str(), exchange["tls"].as_str()) {
            (Some(_), Some(_)) => self.tls.clone(),
            (Some(_), None) => Endpoint::plain(self.tls.addr()),
            _ => self.plain.clone(),
        };
        if let Some(name) = exchange["tls"].as_str().filter(|n| !n.is_empty()) {
            endpoint = endpoint.sni(name);
        }
        let request = map.substitute(exchange["request"].as_str().unwrap_or_default());
        // The recording has one character per byte.
        let bytes: Vec<u8> = request.chars().map(|c| c as u8).collect();
        let method = request.split(' ').next().unwrap_or_default();
        let mut connection = endpoint.connect().await?;
        connection.write(&bytes).await?;
        Ok(connection.response(method).await.ok())
    }

    async fn replay(&self, block: &str) -> anyhow::Result<Score> {
        let ports = [self.plain.addr().port(), self.tls.addr().port()];
        let (mut map, mut score) = (Map::default(), Score::default());
        for exchange in lines(&format!("{block}.jsonl"), |t| self.localised(t))? {
            if exchange.get("reset").is_some() {
                self.wipe().await?;
                continue;
            }
            if let Some(method) = exchange["method"].as_str() {
                let path = exchange["path"].as_str().unwrap_or_default();
                let call = self.gateway.admin().call(method, path);
                let answer = call.json(&exchange["body"]).send().await?;
                assert!(answer.status < 300, "{exchange}: {}", answer.text());
                continue;
            }
            self.gateway.settle().await?;
            let response = self.send(&exchange, &map).await?;
            let expected = &exchange["expect"];
            if expected.is_null() {
                continue;
            }
            let request = exchange["request"].as_str().unwrap_or_default();
            let what = format!(
                "{block} #{} {:?} ({})",
                exchange["seq"],
                request.chars().take(200).collect::<String>(),
                exchange["note"].as_str().unwrap_or_default()
            );
            let status = response.as_ref().map(|r| u64::from(r.status));
            if status != expected["status"].as_u64() {
                let text = response.map(|r| r.text()).unwrap_or_default();
                let why = [
                    format!("status {status:?}, Kong {}", expected["status"]),
                    text,
                ];
                score.add(&what, true, &why);
                continue;
            }
            let Some(response) = response else {
                score.add(&what, false, &[]);
                continue;
            };
            let mut why = header_differences(&expected["headers"], &response);
            learn_cookies(&mut map, &expected["headers"], &response);
            if let Some(kong) = expected.get("json") {
                let mut comparison = Comparison {
                    map: &mut map,
                    sent: request,
                    why,
                };
                comparison.run(
                    &echoed(kong.clone(), ports),
                    &echoed(response.json(), ports),
                    "",
                    "",
                );
                why = comparison.why;
            } else if let Some(kong) = expected["text"].as_str() {
                let (x, y) = (levelled(kong), levelled(&response.text()));
                if x != y {
                    why.push(format!("body {y:?} where Kong has {x:?}"));
                }
            }
            score.add(&what, false, &why);
        }
        Ok(score)
    }
}

/// Which cookie stands for which recorded one.
fn learn_cookies(map: &mut Map, kong: &Value, response: &Response) {
    let cookie = |value: &str| {
        let (name, value) = value.split(';').next()?.split_once('=')?;
        Some((name.to_owned(), value.to_owned()))
    };
    let ours = response.headers.all("set-cookie").filter_map(cookie);
    let ours: BTreeMap<_, _> = ours.collect();
    let kongs = pairs(kong).filter(|(name, _)| name.eq_ignore_ascii_case("set-cookie"));
    for (name, value) in kongs.filter_map(|(_, value)| cookie(value)) {
        if let Some(actual) = ours.get(&name).filter(|_| !value.is_empty()) {
            map.learn(&value, actual);
        }
    }
}

type Fields = BTreeMap<String, Vec<String>>;

fn fields<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> Fields {
    let mut fields = Fields::new();
    for (name, value) in pairs {
        let name = name.to_ascii_lowercase();
        if !ANY.contains(&name.as_str()) {
            let value = if CLOCK.is_match(&name) {
                "*".to_owned()
            } else {
                product(value)
            };
            fields.entry(name).or_default().push(value);
        }
    }
    fields.values_mut().for_each(|values| values.sort());
    fields
}

fn pairs(list: &Value) -> impl Iterator<Item = (&str, &str)> {
    list.as_array()
        .into_iter()
        .flatten()
        .filter_map(|p| Some((p[0].as_str()?, p[1].as_str()?)))
}

fn header_differences(kong: &Value, response: &Response) -> Vec<String> {
    let kong = fields(pairs(kong));
    let ours = fields(
        response
            .headers
            .0
            .iter()
            .map(|(n, v)| (n.as_str(), v.as_str())),
    );
    let names: std::collections::BTreeSet<_> = kong.keys().chain(ours.keys()).collect();
    names
        .into_iter()
        .filter(|name| kong.get(*name) != ours.get(*name))
        .map(|name| {
            format!(
                "header {name}: {:?} where Kong has {:?}",
                ours.get(name),
                kong.get(name)
            )
        })
        .collect()
}

/// The echo upstream's answer with its headers as a set, and the gateway's own ports made equal.
fn echoed(mut answer: Value, ports: [u16; 2]) -> Value {
    if answer["headers"].is_array() && answer.get("http_version").is_some() {
        let mut set = fields(pairs(&answer["headers"]));
        for name in ["x-forwarded-port", "x-forwarded-host"] {
            for value in set.get_mut(name).into_iter().flatten() {
                for port in ["18020", "18023"]
                    .map(str::to_owned)
                    .into_iter()
                    .chain(ports.map(|p| p.to_string()))
                {
                    *value = value.replace(&port, "PORT");
                }
            }
        }
        answer["headers"] = json!(set);
        answer["body"] = unordered(&answer["body"]);
    }
    answer
}

/// A JSON or form body as a value, so that the order of its fields is free.
fn unordered(body: &Value) -> Value {
    let Some(text) = body.as_str().filter(|t| !t.is_empty()) else {
        return body.clone();
    };
    if let Ok(value) = serde_json::from_str(text) {
        return value;
    }
    if FORM.is_match(text) {
        let mut parts: Vec<_> = text.split('&').collect();
        parts.sort_unstable();
        return json!({ "form": parts });
    }
    body.clone()
}

fn product(text: &str) -> String {
    PRODUCT.replace_all(text, "GW").into_owned()
}

fn levelled(text: &str) -> String {
    product(&ID.replace_all(text, "*")).trim().to_owned()
}

#[tokio::test]
async fn without_any_route_as_kong() -> Outcome {
    let bench = Bench::new(Setup::new()).await?;
    bench.replay("proxy/A-no-config").await?.demand(95.0, 0);
    Ok(())
}

#[tokio::test]
async fn one_service_behind_one_route_as_kong() -> Outcome {
    let bench = Bench::new(Setup::new()).await?;
    bench.replay("proxy/B-basic").await?.demand(95.0, 0);
    Ok(())
}

#[tokio::test]
async fn routing_as_kong() -> Outcome {
    let bench = Bench::new(Setup::new()).await?;
    bench.replay("proxy/C-routing").await?.demand(95.0, 0);
    Ok(())
}

#[tokio::test]
async fn more_routing_as_kong() -> Outcome {
    let bench = Bench::new(Setup::new()).await?;
    bench
        .replay("proxy-extra/C2-routing")
        .await?
        .demand(95.0, 0);
    Ok(())
}

#[tokio::test]
async fn path_handling_as_kong() -> Outcome {
    let bench = Bench::new(Setup::new()).await?;
    bench.replay("proxy/D-path-handling").await?.demand(95.0, 0);
    Ok(())
}

#[tokio::test]
async fn errors_as_kong() -> Outcome {
    let bench = Bench::new(Setup::new()).await?;
    bench.replay("proxy/F-errors").await?.demand(95.0, 0);
    Ok(())
}

#[tokio::test]
async fn response_headers_as_kong() -> Outcome {
    let bench = Bench::new(Setup::new()).await?;
    bench
        .replay("proxy-extra/B2-response-headers")
        .await?
        .demand(95.0, 0);
    Ok(())
}

#[tokio::test]
async fn debug_headers_as_kong() -> Outcome {
    let bench = Bench::new(Setup::new().set("allow_debug_header", "on")).await?;
    bench.replay("proxy-extra/Q-debug").await?.demand(95.0, 0);
    Ok(())
}

#[tokio::test]
async fn key_auth_as_kong() -> Outcome {
    let bench = Bench::new(Setup::new()).await?;
    bench.replay("proxy/G-key-auth").await?.demand(95.0, 0);
    Ok(())
}

#[tokio::test]
async fn basic_auth_as_kong() -> Outcome {
    let bench = Bench::new(Setup::new()).await?;
    bench.replay("proxy/G-basic-auth").await?.demand(95.0, 0);
    Ok(())
}

#[tokio::test]
async fn jwt_as_kong() -> Outcome {
    let bench = Bench::new(Setup::new()).await?;
    bench.replay("proxy/G-jwt").await?.demand(95.0, 0);
    Ok(())
}

#[tokio::test]
async fn oauth2_as_kong() -> Outcome {
    let bench = Bench::new(Setup::new()).await?;
    bench.replay("proxy/G-oauth2").await?.demand(95.0, 0);
    Ok(())
}

#[tokio::test]
async fn session_as_kong() -> Outcome {
    let bench = Bench::new(Setup::new()).await?;
    bench.replay("proxy/K-session").await?.demand(95.0, 0);
    Ok(())
}

#[tokio::test]
async fn acl_as_kong() -> Outcome {
    let bench = Bench::new(Setup::new()).await?;
    bench.replay("proxy/G-acl").await?.demand(95.0, 0);
    Ok(())
}

#[tokio::test]
async fn rate_limiting_as_kong() -> Outcome {
    let bench = Bench::new(Setup::new()).await?;
    bench.replay("proxy/H-rate-limiting").await?.demand(95.0, 0);
    Ok(())
}

/// Without the plugins that trace: what they put into requests keeps three of four answers from being compared. What is logged is compared in
/// the tests of `http-log`.
#[tokio::test]
async fn logging_as_kong() -> Outcome {
    let bench = Bench::new(Setup::new()).await?;
    bench.replay("proxy/M-logs").await?.demand(95.0, 0);
    Ok(())
}

#[tokio::test]
async fn cors_as_kong() -> Outcome {
    let bench = Bench::new(Setup::new()).await?;
    bench.replay("proxy/I-cors").await?.demand(95.0, 0);
    Ok(())
}

#[tokio::test]
async fn small_plugins_as_kong() -> Outcome {
    let bench = Bench::new(Setup::new()).await?;
    bench.replay("proxy/K-misc").await?.demand(95.0, 0);
    Ok(())
}

#[tokio::test]
async fn standard_webhooks_as_kong() -> Outcome {
    let bench = Bench::new(Setup::new()).await?;
    bench
        .replay("proxy-extra/K2-webhooks")
        .await?
        .demand(95.0, 0);
    Ok(())
}

#[tokio::test]
async fn transformers_as_kong() -> Outcome {
    let bench = Bench::new(Setup::new()).await?;
    bench.replay("proxy/J-transformers").await?.demand(95.0, 0);
    Ok(())
}

#[tokio::test]
async fn response_ratelimiting_as_kong() -> Outcome {
    let bench = Bench::new(Setup::new()).await?;
    let block = bench.replay("proxy/H-response-ratelimiting").await?;
    block.demand(95.0, 0);
    Ok(())
}

#[tokio::test]
async fn proxy_cache_as_kong() -> Outcome {
    let bench = Bench::new(Setup::new()).await?;
    bench.replay("proxy/L-proxy-cache").await?.demand(95.0, 0);
    Ok(())
}

#[tokio::test]
async fn precedence_of_plugins_as_kong() -> Outcome {
    let bench = Bench::new(Setup::new()).await?;
    bench.replay("proxy/P-precedence").await?.demand(95.0, 0);
    Ok(())
}

#[tokio::test]
async fn traditional_routing_as_kong() -> Outcome {
    let bench = Bench::new(Setup::new().set("router_flavor", "traditional")).await?;
    bench
        .replay("proxy-traditional/C-routing")
        .await?
        .demand(95.0, 0);
    Ok(())
}

#[tokio::test]
async fn more_traditional_routing_as_kong() -> Outcome {
    let bench = Bench::new(Setup::new().set("router_flavor", "traditional")).await?;
    bench
        .replay("proxy-traditional/C2-routing")
        .await?
        .demand(95.0, 0);
    Ok(())
}

#[tokio::test]
async fn traditional_path_handling_as_kong() -> Outcome {
    let bench = Bench::new(Setup::new().set("router_flavor", "traditional")).await?;
    bench
        .replay("proxy-traditional/D-path-handling")
        .await?
        .demand(95.0, 0);
    Ok(())
}
