//! How long a change takes to reach the requests: from the Admin API's 201 to the first request that sees it, on every node.

use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use serde_json::{Value, json};
use silverback_testkit::client::Client;

use super::fill::SERVICE;
use super::report::spread;
use crate::gateway::{Admin, Ports};

/// How often a node is asked whether it knows of the change.
const POLL: Duration = Duration::from_micros(500);

/// When a node that still does not know is given up.
const PATIENCE: Duration = Duration::from_secs(15);

/// Adds routes through the first node, one after the other, and watches each node for it.
pub(super) fn measure(nodes: &[Ports], changes: usize, tag: &str) -> Result<Value> {
    // All watchers are at it before the change is made.
    let ready = Barrier::new(nodes.len() + 1);
    let paths: Vec<_> = (0..changes)
        .map(|n| format!("/change-{tag}-{n:05}"))
        .collect();
    let mut written = Vec::with_capacity(changes);
    let (paths, ready) = (&paths, &ready);
    let watched: Vec<Vec<Instant>> = thread::scope(|scope| {
        let watch = |ports: Ports| scope.spawn(move || watch(ports, paths, ready));
        let watchers: Vec<_> = nodes.iter().copied().map(watch).collect();
        let mut admin = Admin::new(nodes[0]);
        let mut failure = None;
        for path in paths {
            ready.wait();
            // Even after a failure: the watchers wait at the barrier, once for each path.
            if failure.is_none() {
                let route = json!({"name": path.trim_start_matches('/'), "paths": [path]});
                failure = admin
                    .send("POST", &format!("/services/{SERVICE}/routes"), &route)
                    .err();
            }
            written.push(Instant::now());
            ready.wait();
        }
        let watched = watchers
            .into_iter()
            .map(|w| w.join().map_err(|_| anyhow!("a watcher panicked"))?);
        let watched = watched.collect::<Result<Vec<_>>>();
        failure.map_or(watched, Err)
    })?;
    let nodes: Vec<_> = watched
        .iter()
        .map(|seen| {
            spread(
                seen.iter()
                    .zip(&written)
                    .map(|(s, w)| s.saturating_duration_since(*w))
                    .collect(),
            )
        })
        .collect();
    Ok(json!({"first_is_the_writer": nodes}))
}

fn watch(ports: Ports, paths: &[String], ready: &Barrier) -> Result<Vec<Instant>> {
    let mut client = Client::new(ports.proxy_addr());
    let mut seen = Vec::with_capacity(paths.len());
    let mut failure = None;
    for path in paths {
        ready.wait();
        if failure.is_none() {
            match see(&mut client, path) {
                Ok(at) => seen.push(at),
                Err(error) => failure = Some(error),
            }
        }
        ready.wait();
    }
    failure.map_or(Ok(seen), Err)
}

fn see(client: &mut Client, path: &str) -> Result<Instant> {
    let end = Instant::now() + PATIENCE;
    while Instant::now() < end {
        if client
            .get(path)
            .with_context(|| format!("asking for {path}"))?
            .status
            != 404
        {
            return Ok(Instant::now());
        }
        thread::sleep(POLL);
    }
    bail!("{path} was not there after {} s", PATIENCE.as_secs())
}
