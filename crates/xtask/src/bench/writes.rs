//! Writes over the Admin API, and what Postgres itself commits meanwhile: the two go to the same disk in the same run.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use serde_json::{Value, json};
use silverback_testkit::postgres::{Cluster, program};
use silverback_testkit::process::Program;

use super::report::{median, round, spread};
use crate::gateway::{Admin, Ports};

/// How many clients write at once, in turn.
const CLIENTS: [usize; 2] = [1, 16];

/// How often each has its turn.
const ROUNDS: usize = 3;

/// Posts services with one client and with many, in turns with a program of Postgres' that does nothing but commit one row after
/// the other on one connection.
pub(super) fn measure(cluster: &Cluster, ports: Ports, seconds: u64) -> Result<Value> {
    let length = Duration::from_secs(seconds);
    let mut commits = Vec::new();
    let mut turns = CLIENTS.map(|_| (Vec::new(), Vec::new()));
    for number in 0..ROUNDS {
        commits.push(commits_per_second(cluster, seconds)?);
        for (clients, (rates, times)) in CLIENTS.iter().zip(&mut turns) {
            let took = post(ports, *clients, length, &format!("w{number}-{clients}"))?;
            #[allow(clippy::cast_precision_loss)] // Thousands.
            rates.push(took.len() as f64 / length.as_secs_f64());
            times.extend(took);
        }
    }
    let commits = median(commits);
    let figures = CLIENTS
        .iter()
        .zip(turns)
        .map(|(clients, (rates, times))| {
            let rate = median(rates);
            json!({
                "clients": clients,
                "per_second": round(rate, 0),
                "ratio_to_commits": round(rate / commits, 2),
                "took": spread(times),
            })
        })
        .collect::<Vec<_>>();
    Ok(json!({"postgres_commits_per_second": round(commits, 0), "post_services": figures}))
}

/// How long each `POST /services` took, of as many as were answered in that time.
fn post(ports: Ports, clients: usize, length: Duration, tag: &str) -> Result<Vec<Duration>> {
    let next = AtomicUsize::new(0);
    let over = AtomicBool::new(false);
    let work = || {
        let mut admin = Admin::new(ports);
        let mut times = Vec::new();
        while !over.load(Ordering::Relaxed) {
            let n = next.fetch_add(1, Ordering::Relaxed);
            let service = json!({"name": format!("{tag}-{n}"), "url": "http://127.0.0.1:1"});
            let start = Instant::now();
            admin.send("POST", "/services", &service)?;
            times.push(start.elapsed());
        }
        anyhow::Ok(times)
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..clients).map(|_| scope.spawn(work)).collect();
        thread::sleep(length);
        over.store(true, Ordering::Relaxed);
        let mut all = Vec::new();
        for thread in threads {
            all.extend(thread.join().map_err(|_| anyhow!("a client panicked"))??);
        }
        Ok(all)
    })
}

/// What one connection commits when each transaction inserts one small row.
fn commits_per_second(cluster: &Cluster, seconds: u64) -> Result<f64> {
    const DATABASE: &str = "commits";
    cluster.ensure_database(DATABASE)?;
    cluster.sql(
        DATABASE,
        "CREATE TABLE IF NOT EXISTS rows (id bigserial PRIMARY KEY, text text)",
    )?;
    let script = cluster.folder().with_extension("commits.sql");
    std::fs::write(
        &script,
        "INSERT INTO rows (text) VALUES ('a row of about the size of a service: name, host, port, path, timeouts');\n",
    )
    .with_context(|| format!("cannot write {}", script.display()))?;
    let said = Program::new(program("pgbench")?)
        .args(["--no-vacuum", "--protocol=prepared", "--client=1", "--time"])
        .arg(seconds.to_string())
        .arg("--file")
        .arg(&script)
        .arg(cluster.url(DATABASE))
        .output()?;
    tps(&said).with_context(|| format!("pgbench said:\n{said}"))
}

fn tps(said: &str) -> Option<f64> {
    let line = said.lines().find_map(|line| line.strip_prefix("tps = "))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_of_commits_is_found_in_what_pgbench_says() {
        let said = "number of failed transactions: 0 (0.000%)\nlatency average = 0.5 ms\n\
                    tps = 1234.5678 (without initial connection time)\n";
        assert_eq!(tps(said), Some(1234.5678));
        assert_eq!(tps("pgbench: error: connection failed"), None);
    }
}
