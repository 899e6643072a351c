//! A large declarative file into an empty database, with a node running on it.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::{Value, json};
use silverback_testkit::process::Program;

use super::fill::{Content, key, path};
use super::report::round;
use super::{await_last, progress};
use crate::gateway::Node;

/// Imports as many services as routes, each route with a service of its own, and consumers with a key each; measures the command,
/// and how long after it the node serves the last of the routes to the last of the keys.
pub(super) fn measure(
    node: &Node,
    upstream: &str,
    routes: usize,
    consumers: usize,
) -> Result<Value> {
    let step = progress::step(&format!(
        "importing {routes} services and routes, {consumers} consumers"
    ));
    let file = node.prefix.with_extension("yml");
    std::fs::write(&file, declaration(upstream, routes, consumers))
        .with_context(|| format!("cannot write {}", file.display()))?;
    let start = Instant::now();
    Program::new(&node.binary)
        .args(["config", "db_import"])
        .arg(&file)
        .arg("-c")
        .arg(node.conf())
        .output()?;
    let command = start.elapsed();
    let content = Content {
        routes,
        consumers,
        key_auth: true,
        rate_limiting: false,
    };
    await_last(node, content, Duration::from_secs(60))?;
    step.done();
    Ok(json!({
        "services": routes, "routes": routes, "consumers": consumers,
        "command_seconds": round(command.as_secs_f64(), 2),
        "served_seconds": round(start.elapsed().as_secs_f64(), 2),
    }))
}

fn declaration(upstream: &str, routes: usize, consumers: usize) -> String {
    let mut text =
        String::from("_format_version: \"3.0\"\nplugins:\n- name: key-auth\nservices:\n");
    // Writing to a String cannot fail.
    for n in 0..routes {
        let _infallible = writeln!(
            text,
            "- name: service-{n:06}\n  url: {upstream}\n  routes:\n  - name: route-{n:06}\n    paths: [{}]",
            path(n)
        );
    }
    text.push_str("consumers:\n");
    for n in 0..consumers {
        let _infallible = writeln!(
            text,
            "- username: consumer-{n:07}\n  keyauth_credentials:\n  - key: {}",
            key(n)
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_declared_once() {
        let text = declaration("http://up.test", 2, 3);
        assert_eq!(text.matches("paths: [/r/00000").count(), 2);
        assert_eq!(text.matches("keyauth_credentials").count(), 3);
    }
}
