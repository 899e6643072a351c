//! The Admin API, section by section.

use anyhow::Context as _;
use serde_json::Value;
use silverback_testkit::gateway::Gateway;

use super::compare::{Comparison, Map};
use super::{Score, lines};
use crate::Outcome;

/// The sections in the order of the recording: what one makes the next ones use.
const SECTIONS: [&str; 14] = [
    "info",
    "services",
    "routes",
    "consumers",
    "plugins",
    "forms",
    "upstreams",
    "certificates",
    "vaults-keys",
    "credentials",
    "pagination-tags",
    "validate",
    "misc",
    "cascade",
];

#[tokio::test]
async fn the_admin_api_answers_as_kong_does() -> Outcome {
    let gateway = Gateway::start().await?;
    let mut map = Map::default();
    let mut scores = Vec::new();
    for section in SECTIONS {
        scores.push(replay(&gateway, &mut map, section).await?);
    }
    for (section, score) in SECTIONS.iter().zip(scores) {
        println!("{section}");
        score.demand(97.0, 0);
    }
    Ok(())
}

async fn replay(gateway: &Gateway, map: &mut Map, section: &str) -> anyhow::Result<Score> {
    let mut score = Score::default();
    for exchange in lines(&format!("admin/{section}.jsonl"), |text| text)? {
        let text = |key: &str| exchange[key].as_str().unwrap_or_default();
        let sent = map.substitute(text("path"));
        let mut call = gateway.admin().call(text("method"), &sent);
        for (name, value) in exchange["headers"].as_object().into_iter().flatten() {
            call = call.header(name, value.as_str().context("a header is a string")?);
        }
        if let Some(body) = exchange["body"].as_str() {
            call = call.body(map.substitute(body));
        }
        let response = call.send().await?;
        let expected = &exchange["expect"];
        if expected.is_null() {
            continue;
        }
        let body = text("body");
        let what = format!(
            "{section} #{} {} {} {} ({})",
            exchange["seq"],
            text("method"),
            text("path"),
            body.chars().take(120).collect::<String>(),
            text("note")
        );
        if expected["status"] != response.status {
            let why = [
                format!("status {}, Kong {}", response.status, expected["status"]),
                response.text(),
            ];
            score.add(&what, true, &why);
            continue;
        }
        let mut comparison = Comparison {
            map,
            sent: &format!("{body}{}", text("path")),
            why: Vec::new(),
        };
        if let Some(json) = expected.get("json") {
            comparison.run(json, &response.json(), "", "");
        } else if let Some(kong) = expected["text"].as_str()
            && kong != response.text()
        {
            comparison.why.push(format!(
                "body {:?} where Kong has {kong:?}",
                response.text()
            ));
        }
        let mut why = comparison.why;
        for name in [
            "content-type",
            "allow",
            "access-control-allow-origin",
            "access-control-allow-methods",
            "access-control-allow-credentials",
        ] {
            let kong = expected["headers"].get(name).and_then(Value::as_str);
            let ours = response.header(name);
            if sorted(kong) != sorted(ours) {
                why.push(format!("header {name}: {ours:?} where Kong has {kong:?}"));
            }
        }
        score.add(&what, false, &why);
    }
    Ok(score)
}

/// A list of methods may come in any order.
fn sorted(value: Option<&str>) -> Option<Vec<&str>> {
    value.map(|v| {
        let mut parts: Vec<_> = v.split(',').map(str::trim).collect();
        parts.sort_unstable();
        parts
    })
}
