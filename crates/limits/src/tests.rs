#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use silverback_plugin::exchange::{FakeCounters, FakeServices};
use silverback_plugin::{InstanceInfo, PluginEnv, Services};
use silverback_testkit::redis::Server;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use uuid::Uuid;

use crate::{Away, Identifier, Meter, Period, Policy, Redis, Series, unix_seconds};

const WHO: Identifier<'static> = Identifier::Id(Uuid::from_u128(1));

/// A meter for 5 per hour and 10 per day of `a`, and 3 per day of `b`.
fn meter(policy: Policy<'_>, fault_tolerant: bool, services: &dyn Services) -> Meter {
    let instance = InstanceInfo {
        route: Some(Uuid::from_u128(2)),
        ..InstanceInfo::default()
    };
    let series = |name| Series::new("test", &instance).named(name);
    let limits = [
        (series("a"), Period::Hour, 5.0),
        (series("a"), Period::Day, 10.0),
        (series("b"), Period::Day, 3.0),
    ];
    let env = PluginEnv {
        instance: &instance,
        services,
    };
    Meter::new(policy, fault_tolerant, limits, &env).unwrap()
}

fn now() -> i64 {
    unix_seconds(SystemTime::now())
}

async fn read(meter: &Meter, now: i64) -> Result<[u64; 3], Away> {
    let mut used = [0; 3];
    match meter.read(WHO, now, &mut used) {
        Some(read) => read?,
        None => meter.read_async(WHO, now, &mut used).await?,
    }
    Ok(used)
}

async fn take(meter: &Meter, now: i64) -> Result<bool, Away> {
    let mut used = [0; 3];
    match meter.take(WHO, now, &mut used) {
        Some(taken) => taken,
        None => meter.take_async(WHO, now, &mut used).await,
    }
}

/// Waits until so much is read.
async fn until(meter: &Meter, now: i64, expected: [u64; 3]) {
    let reached = async {
        while read(meter, now).await.is_ok_and(|used| used != expected) {
            tokio::task::yield_now().await;
        }
    };
    let reached = tokio::time::timeout(Duration::from_secs(10), reached);
    reached.await.unwrap();
    assert_eq!(read(meter, now).await.unwrap(), expected);
}

fn redis(settings: Value) -> Redis {
    serde_json::from_value(settings).unwrap()
}

/// Lets background tasks answer: the runtime has one thread, and fake counters answer at once.
async fn settle() {
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn what_is_added_is_read_and_taken_from_the_same_limits() {
    let services = FakeServices::default();
    let meter = meter(Policy::Local, true, &services);
    let now = now();
    assert_eq!(read(&meter, now).await.unwrap(), [0, 0, 0]);
    meter.add(WHO, now, &[4, 4, 0]);
    assert_eq!(read(&meter, now).await.unwrap(), [4, 4, 0]);
    assert!(take(&meter, now).await.unwrap());
    assert!(!take(&meter, now).await.unwrap());
    // Also beyond the limit.
    meter.add(WHO, now, &[20, 20, 7]);
    assert_eq!(read(&meter, now).await.unwrap(), [25, 25, 8]);
    // Whoever reads counts nothing, and others have their own.
    let mut used = [0; 3];
    let other = Identifier::Text(b"other");
    assert!(meter.read(other, now, &mut used).unwrap().is_ok());
    assert_eq!(used, [0; 3]);
    // The next day.
    assert_eq!(read(&meter, now + 86_400).await.unwrap(), [0; 3]);
}

#[tokio::test]
async fn more_than_can_be_counted_is_as_much_as_can_be_counted() {
    let services = FakeServices::default();
    let meter = meter(Policy::Local, true, &services);
    for _ in 0..3 {
        meter.add(WHO, now(), &[u64::MAX, 0, 0]);
    }
    let [used, ..] = read(&meter, now()).await.unwrap();
    assert_eq!(used, crate::local::MOST);
}

#[tokio::test]
async fn nodes_hear_of_additions_through_the_database() {
    let counters = Arc::new(FakeCounters::default());
    let services = [(); 2].map(|()| FakeServices::with_counters(counters.clone()));
    let nodes = [0, 1].map(|i: usize| meter(Policy::Cluster, true, &services[i]));
    let now = now();
    nodes[0].add(WHO, now, &[2, 2, 9]);
    // On its own node at once.
    assert_eq!(read(&nodes[0], now).await.unwrap(), [2, 2, 9]);
    settle().await;
    // Exactly what was added, no blocks.
    assert_eq!(counters.total(), 13);
    // The first one to read asks.
    assert_eq!(read(&nodes[1], now).await.unwrap(), [0, 0, 0]);
    settle().await;
    assert_eq!(read(&nodes[1], now).await.unwrap(), [2, 2, 9]);
    nodes[1].add(WHO, now, &[1, 1, 0]);
    settle().await;
    assert_eq!(read(&nodes[1], now).await.unwrap(), [3, 3, 9]);
    assert!(counters.keys().iter().all(|k| {
        k.starts_with("test:00000000-0000-0000-0000-000000000002:")
            && (k.ends_with(":a:hour") || k.ends_with(":a:day") || k.ends_with(":b:day"))
    }));
}

#[tokio::test]
async fn a_node_that_only_reads_asks_the_database_once_a_second() {
    let counters = Arc::new(FakeCounters::default());
    let services = FakeServices::with_counters(counters.clone());
    let meter = meter(Policy::Cluster, true, &services);
    let now = now();
    for _ in 0..5 {
        read(&meter, now).await.unwrap();
        settle().await;
    }
    assert_eq!(counters.calls(), 1);
    read(&meter, now + 10).await.unwrap();
    settle().await;
    assert_eq!(counters.calls(), 2);
    assert_eq!(counters.total(), 0);
    // Nor does it leave anything there.
    assert!(counters.keys().is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_is_added_while_the_database_is_away_is_told_later() {
    let counters = Arc::new(FakeCounters::default());
    counters.set_away(true);
    let services = FakeServices::with_counters(counters.clone());
    let tolerant = meter(Policy::Cluster, true, &services);
    let strict = meter(Policy::Cluster, false, &services);
    let now = now();
    tolerant.add(WHO, now, &[2, 2, 0]);
    settle().await;
    assert_eq!(read(&tolerant, now).await.unwrap(), [2, 2, 0]);
    assert!(read(&strict, now).await.is_err());
    counters.set_away(false);
    // Nobody asks meanwhile.
    tokio::time::sleep(Duration::from_secs(1)).await;
    settle().await;
    assert_eq!(counters.total(), 4);
    assert_eq!(read(&strict, now).await.unwrap(), [2, 2, 0]);
}

#[tokio::test]
async fn nodes_read_in_redis_what_any_of_them_added() {
    let server = Server::start().unwrap();
    let set = server.command("CONFIG SET requirepass secret").unwrap();
    assert_eq!(set, "+OK");
    let mut settings = server.settings();
    settings["password"] = "secret".into();
    let redis = redis(settings);
    let services = [(); 2].map(|()| FakeServices::default());
    let nodes = [0, 1].map(|i: usize| meter(Policy::Redis(&redis), true, &services[i]));
    let now = now();
    nodes[0].add(WHO, now, &[2, 2, 9]);
    until(&nodes[1], now, [2, 2, 9]).await;
    nodes[1].add(WHO, now, &[1, 1, 0]);
    until(&nodes[0], now, [3, 3, 9]).await;
    // The third limit is reached.
    assert!(!take(&nodes[0], now).await.unwrap());
}

#[tokio::test]
async fn what_is_added_while_redis_is_away_is_sent_when_it_is_back() {
    let mut server = Server::start().unwrap();
    let redis = redis(server.settings());
    let services = FakeServices::default();
    let meter = meter(Policy::Redis(&redis), true, &services);
    let now = now();
    assert_eq!(read(&meter, now).await.unwrap(), [0; 3]);
    server.kill();
    assert!(read(&meter, now).await.is_err());
    meter.add(WHO, now, &[1, 1, 0]);
    server.restart().unwrap();
    let back = async {
        while !matches!(read(&meter, now).await, Ok([1, 1, 0])) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), back)
        .await
        .unwrap();
}

#[tokio::test]
async fn nodes_exchange_additions_now_and_then() {
    let server = Server::start().unwrap();
    let redis = redis(server.settings());
    let services = [(); 2].map(|()| FakeServices::default());
    let nodes = [0, 1].map(|i: usize| meter(Policy::Synced(&redis, 0.02), true, &services[i]));
    let now = now();
    nodes[0].add(WHO, now, &[2, 2, 0]);
    nodes[1].add(WHO, now, &[1, 1, 1]);
    until(&nodes[0], now, [3, 3, 1]).await;
    until(&nodes[1], now, [3, 3, 1]).await;
}

/// The third value counted from the one that ends so is what is added to that counter.
fn added(request: &str, counter: &str) -> Option<u64> {
    let mut lines = request.split("\r\n");
    lines.find(|l| l.ends_with(counter))?;
    lines.nth(1)?.parse().ok()
}

/// A Redis that answers until something is to be added; then it hangs up without a word. What was to be added to the counters that end so
/// comes out of the channel.
async fn hanging_up(counter: &'static str) -> (Value, UnboundedReceiver<u64>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (heard, amounts) = unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let mut request = vec![0; 4096];
            while let Ok(n @ 1..) = client.read(&mut request).await {
                let text = String::from_utf8_lossy(&request[..n]).into_owned();
                if let Some(amount) = added(&text, counter) {
                    let _ = heard.send(amount);
                    break;
                }
                let commands = text.split("\r\n").filter(|l| l.starts_with('*')).count();
                client
                    .write_all("+OK\r\n".repeat(commands).as_bytes())
                    .await
                    .unwrap();
            }
        }
    });
    (json!({ "host": "127.0.0.1", "port": port }), amounts)
}

#[tokio::test]
async fn what_redis_may_have_counted_is_not_told_again() {
    for synced in [true, false] {
        let (settings, mut amounts) = hanging_up(":a:hour").await;
        let redis = redis(settings);
        let policy = if synced {
            Policy::Synced(&redis, 0.02)
        } else {
            Policy::Redis(&redis)
        };
        let services = FakeServices::default();
        let node = meter(policy, true, &services);
        let now = now();
        for amount in [2, 1] {
            node.add(WHO, now, &[amount, 0, 0]);
            let heard = tokio::time::timeout(Duration::from_secs(10), amounts.recv());
            assert_eq!(heard.await.unwrap(), Some(amount), "{synced}");
        }
    }
}

#[tokio::test]
async fn what_redis_refuses_does_not_count_the_rest_again() {
    let server = Server::start().unwrap();
    let mut settings = server.settings();
    settings["database"] = 0.into();
    let redis = redis(settings);
    let services = [(); 2].map(|()| FakeServices::default());
    let nodes = [0, 1].map(|i: usize| meter(Policy::Synced(&redis, 0.02), true, &services[i]));
    let now = now();
    let instance = InstanceInfo {
        route: Some(Uuid::from_u128(2)),
        ..InstanceInfo::default()
    };
    let name = |series, period: Period| {
        let series = Series::new("test", &instance).named(series);
        series.name(WHO, period.window(now).start, period)
    };
    let (good, bad) = (name("a", Period::Hour), name("b", Period::Day));
    server.command(&format!("LPUSH {bad} x")).unwrap();
    let reached = async |total: &str| {
        let reached = async {
            while server.command(&format!("INCRBY {good} 0")).unwrap() != total {
                tokio::task::yield_now().await;
            }
        };
        let reached = tokio::time::timeout(Duration::from_secs(10), reached);
        reached.await.unwrap();
    };
    nodes[0].add(WHO, now, &[2, 0, 1]);
    reached(":2").await;
    // With what was refused before.
    nodes[0].add(WHO, now, &[1, 0, 0]);
    reached(":3").await;
    server.command(&format!("DEL {bad}")).unwrap();
    until(&nodes[1], now, [3, 0, 1]).await;
    assert_eq!(read(&nodes[0], now).await.unwrap(), [3, 0, 1]);
}
