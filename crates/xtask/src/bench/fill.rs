//! Filling a gateway over its Admin API, with several clients at once.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use serde_json::json;

use super::load::Target;
use crate::gateway::{Admin, Ports};

/// The service that every route of the benchmarks leads to.
pub(super) const SERVICE: &str = "bench";

/// How many clients write at once.
pub(super) const CLIENTS: usize = 4;

/// What a gateway holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Content {
    pub(super) routes: usize,
    pub(super) consumers: usize,
    pub(super) key_auth: bool,
    pub(super) rate_limiting: bool,
}

/// The path of a route.
pub(super) fn path(route: usize) -> String {
    format!("/r/{route:06}")
}

/// The key of a consumer.
pub(super) fn key(consumer: usize) -> String {
    format!("key-{consumer:07}-of-the-benchmark")
}

impl Content {
    /// What a proxy without content of its own is asked like.
    pub(super) const ONE_ROUTE: Content = Content {
        routes: 1,
        consumers: 0,
        key_auth: false,
        rate_limiting: false,
    };

    /// What to ask a gateway with this content: all routes, all keys, and at least that many different requests. Those who are
    /// compared are asked for equally many: a client that has more of them leaves less of the processor's caches to the proxy.
    pub(super) fn targets(self, different: usize) -> Vec<Target> {
        let keys = if self.key_auth {
            self.consumers.max(1)
        } else {
            1
        };
        let count = self.routes.max(keys).max(different);
        let target = |n: usize| Target {
            path: format!("{}/{n:07}", path(n % self.routes.max(1))),
            key: self.key_auth.then(|| key(n % keys)),
        };
        (0..count).map(target).collect()
    }

    /// Creates it, and returns how long the routes took.
    pub(super) fn create(self, ports: Ports, upstream: &str) -> Result<Duration> {
        let mut admin = Admin::new(ports);
        admin.send(
            "PUT",
            &format!("/services/{SERVICE}"),
            &json!({"url": upstream}),
        )?;
        let plugins = [
            (self.key_auth, "key-auth", json!({})),
            // Never reached: what a request costs that is let through is what is measured.
            (
                self.rate_limiting,
                "rate-limiting",
                json!({"hour": 1_000_000_000, "policy": "local"}),
            ),
        ];
        for (wanted, name, config) in plugins {
            if wanted {
                let plugins = format!("/services/{SERVICE}/plugins");
                admin.send("POST", &plugins, &json!({"name": name, "config": config}))?;
            }
        }
        in_parallel(ports, self.consumers, |admin, n| {
            let name = format!("consumer-{n:07}");
            admin.send("POST", "/consumers", &json!({"username": name}))?;
            admin.send(
                "POST",
                &format!("/consumers/{name}/key-auth"),
                &json!({"key": key(n)}),
            )?;
            Ok(())
        })?;
        create_routes(ports, 0..self.routes)
    }
}

/// Creates the routes with these numbers, and returns how long that took.
pub(super) fn create_routes(ports: Ports, numbers: Range<usize>) -> Result<Duration> {
    let start = Instant::now();
    in_parallel(ports, numbers.len(), |admin, n| {
        let n = numbers.start + n;
        let route = json!({"name": format!("route-{n:06}"), "paths": [path(n)]});
        admin.send("POST", &format!("/services/{SERVICE}/routes"), &route)?;
        Ok(())
    })?;
    Ok(start.elapsed())
}

/// Does `job` for 0 to `count`, each number once, with [`CLIENTS`] connections.
fn in_parallel(
    ports: Ports,
    count: usize,
    job: impl Fn(&mut Admin, usize) -> Result<()> + Sync,
) -> Result<()> {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut admin = Admin::new(ports);
        loop {
            let n = next.fetch_add(1, Ordering::Relaxed);
            if n >= count {
                return Ok(());
            }
            job(&mut admin, n)?;
        }
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(work)).collect();
        threads
            .into_iter()
            .try_for_each(|t| t.join().map_err(|_| anyhow!("a client panicked"))?)
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    #[test]
    fn every_route_and_every_key_is_asked_for() {
        let content = Content {
            routes: 2,
            consumers: 3,
            key_auth: true,
            rate_limiting: false,
        };
        let targets = content.targets(1);
        assert_eq!(targets.len(), 3);
        assert_eq!(
            targets[2],
            Target {
                path: "/r/000000/0000002".into(),
                key: Some(key(2))
            }
        );
        let different: Vec<_> = Content::ONE_ROUTE
            .targets(2)
            .into_iter()
            .map(|t| (t.path, t.key))
            .collect();
        assert_eq!(
            different,
            [
                ("/r/000000/0000000".to_owned(), None),
                ("/r/000000/0000001".to_owned(), None)
            ]
        );
    }

    #[test]
    fn each_number_is_done_once_and_an_error_ends_it() {
        let ports = Ports {
            proxy: 1,
            proxy_tls: 1,
            admin: 1,
            status: 1,
        };
        let seen = Mutex::new(Vec::new());
        in_parallel(ports, 100, |_, n| {
            seen.lock().unwrap().push(n);
            Ok(())
        })
        .unwrap();
        let mut seen = seen.into_inner().unwrap();
        seen.sort_unstable();
        assert_eq!(seen, (0..100).collect::<Vec<_>>());
        assert!(in_parallel(ports, 10, |_, _| Err(anyhow!("no"))).is_err());
    }
}
