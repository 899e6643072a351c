//! `cargo xtask bench`: what the gateway costs, against a bare Pingora proxy, nginx and no proxy.
//!
//! All subjects run at once and take turns, round after round, in one run: figures of different runs on a shared machine do
//! not compare. What counts is the CPU time of the proxy's process per request, since load, upstream and proxy share the
//! same cores and requests per second say as much about the other two.

mod change;
mod fill;
mod import;
mod load;
mod report;
mod subjects;
mod usage;
mod writes;

use std::fs;
use std::path::{Path, PathBuf};
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use silverback_testkit::client::Client;
use silverback_testkit::postgres::{Cluster, Keep};
use silverback_testkit::process;

use crate::gateway::Node;
use crate::prerequisites::{self, For};
use crate::{progress, repo};
use fill::{CLIENTS, Content};
use load::Load;
use report::{Rounds, Sample, YARDSTICK, round};
use subjects::{Gateways, Subject, Upstream, database_name};

const PREFIX: &str = "silverback-bench-";

/// Subjects of the rounds, in the order of the table.
const SUBJECTS: [&str; 9] = [
    "direct",
    YARDSTICK,
    "nginx",
    "plain",
    "key-auth",
    "key-auth+rate-limiting",
    "routes",
    "consumers",
    "routes+consumers",
];

/// What is measured besides.
const OTHERS: [&str; 5] = ["write", "admin", "import", "change", "cold"];

/// What is asked for on the command line.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only these, with commas: direct, bare, nginx, plain, key-auth, key-auth+rate-limiting, routes, consumers,
    /// routes+consumers, write, admin, import, change, cold
    #[arg(long, value_delimiter = ',', value_parser = clap::builder::PossibleValuesParser::new(SUBJECTS.into_iter().chain(OTHERS)))]
    only: Vec<String>,
    /// Seconds of load per subject and round.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// How often each subject has its turn.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Connections that are always busy.
    #[arg(long, default_value_t = 32)]
    connections: usize,
    /// Threads of each proxy; as many as there are cores unless told.
    #[arg(long)]
    threads: Option<usize>,
    /// How many routes "many" are.
    #[arg(long, default_value_t = 10_000)]
    routes: usize,
    /// How many consumers "many" are.
    #[arg(long, default_value_t = 100_000)]
    consumers: usize,
    /// How many changes are watched.
    #[arg(long, default_value_t = 100)]
    changes: usize,
    /// Measure this gateway instead of building one.
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
    /// Where the figures go; bench.json in the target folder unless told.
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Measures and reports.
pub(crate) fn run(args: &Args) -> Result<()> {
    prerequisites::ensure(For::Bench)?;
    if args.rounds == 0 || args.seconds == 0 {
        bail!("at least one round of one second");
    }
    let mut binaries = Binaries {
        gateway: args.binary.clone(),
        bare: repo::build(&["bare-proxy"], true)?.join("bare-proxy"),
    };
    if args.binary.is_none() && SUBJECTS[3..].iter().chain(&OTHERS).any(|n| args.wants(n)) {
        binaries.gateway = Some(repo::build(&["silverback"], true)?.join("silverback"));
    }

    process::sweep_stale(PREFIX);
    let folder = Folder(process::temporary(PREFIX));
    // The user Postgres runs as passes through it.
    fs::create_dir_all(&folder.0).with_context(|| format!("cannot make {}", folder.0.display()))?;
    let step = progress::step("starting Postgres and the upstream");
    let mut cluster = Cluster::open(&folder.0.join("postgres"), Keep::Durable)?;
    cluster.start()?;
    let upstream = Upstream::start(&folder.0)?;
    step.done();

    let threads = args
        .threads
        .unwrap_or_else(|| available_parallelism().map_or(2, Into::into));
    let bench = Bench {
        args,
        threads,
        binaries: &binaries,
        folder: &folder.0,
        upstream: &upstream,
        gateways: Gateways {
            binary: binaries.gateway.clone().unwrap_or_default(),
            folder: &folder.0,
            cluster: &cluster,
            threads,
        },
    };
    let results = bench.run()?;

    let output = match &args.output {
        Some(path) => path.clone(),
        None => repo::target_dir()?.join("bench.json"),
    };
    fs::write(&output, format!("{results:#}\n"))
        .with_context(|| format!("cannot write {}", output.display()))?;
    println!("\n{}", report::table(&results["subjects"]));
    for name in OTHERS {
        if !results[name].is_null() {
            println!("{name}: {}", results[name]);
        }
    }
    println!("\nwritten to {}", output.display());
    Ok(())
}

/// The programs of ours.
struct Binaries {
    /// None when no gateway is measured.
    gateway: Option<PathBuf>,
    bare: PathBuf,
}

/// A folder that goes with the run.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _left_for_the_next_sweep = fs::remove_dir_all(&self.0);
    }
}

impl Args {
    fn wants(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == name)
    }
}

struct Bench<'a> {
    args: &'a Args,
    threads: usize,
    binaries: &'a Binaries,
    folder: &'a Path,
    upstream: &'a Upstream,
    gateways: Gateways<'a>,
}

impl Bench<'_> {
    fn run(&self) -> Result<Value> {
        let mut results = json!({
            "threads": self.threads,
            "connections": self.args.connections,
            "seconds": self.args.seconds,
            "rounds": self.args.rounds,
            "routes": self.args.routes,
            "consumers": self.args.consumers,
        });
        let mut subjects = self.proxies()?;
        for (name, content) in self.contents() {
            let wanted = self.args.wants(name) || (name == "routes" && self.args.wants("write"));
            if !wanted {
                continue;
            }
            let step = progress::step(&format!("filling {name}"));
            let donor = (name == "routes+consumers")
                .then(|| {
                    subjects
                        .iter()
                        .position(|s: &Subject| s.name == "consumers")
                })
                .flatten();
            let subject = match donor {
                Some(donor) => {
                    let (original, copy) = self.widen(subjects.remove(donor), name, content)?;
                    subjects.push(original);
                    copy
                }
                None => {
                    let (node, process) = self.gateways.start_empty(name)?;
                    let took = content.create(node.ports, &self.upstream.url())?;
                    if name == "routes" {
                        #[allow(clippy::cast_precision_loss)] // Thousands.
                        let rate = content.routes as f64 / took.as_secs_f64();
                        results["write"] = json!({
                            "routes": content.routes,
                            "clients": CLIENTS,
                            "per_second": round(rate, 0),
                        });
                    }
                    Subject::gateway(name, node, process, content)
                }
            };
            if let Some(node) = &subject.node {
                await_last(node, content, Duration::from_secs(60))?;
            }
            subjects.push(subject);
            step.done();
        }
        results["subjects"] = self.rounds(&subjects)?;
        // From here on their databases are copied, for which nobody may be connected.
        for (node, mut process) in subjects.into_iter().filter_map(Subject::into_node) {
            process.stop(Duration::from_secs(10));
            drop(node);
        }
        if self.args.wants("admin") {
            let step = progress::step("writes over the Admin API");
            let (node, mut process) = self.gateways.start_empty("admin")?;
            results["admin"] =
                writes::measure(self.gateways.cluster, node.ports, self.args.seconds)?;
            process.stop(Duration::from_secs(10));
            step.done();
        }
        if self.args.wants("import") {
            let (node, mut process) = self.gateways.start_empty("import")?;
            let Args {
                routes, consumers, ..
            } = *self.args;
            results["import"] = import::measure(&node, &self.upstream.url(), routes, consumers)?;
            process.stop(Duration::from_secs(10));
        }
        if self.args.wants("change") {
            results["change"] = json!({
                "one_route": self.change("change-one", 1)?,
                "many_routes": self.change("change-many", self.args.routes)?,
            });
        }
        if self.args.wants("cold") {
            results["cold"] = self.cold()?;
        }
        Ok(results)
    }

    /// A subject with the content of another and more routes: its database is copied, since filling one takes minutes. The
    /// original is stopped for that and comes back.
    fn widen(&self, original: Subject, name: &str, content: Content) -> Result<(Subject, Subject)> {
        let original_name = original.name.clone();
        let (node, mut process) = original
            .into_node()
            .context("only a gateway has a database")?;
        process.stop(Duration::from_secs(10));
        let database = self.gateways.copy_database(name, &original_name)?;
        let fewer = Content {
            routes: 1,
            ..content
        };
        let original = Subject::gateway(&original_name, node.clone(), node.start()?, fewer);
        let node = self.gateways.node(name, &database)?;
        let process = node.start()?;
        fill::create_routes(node.ports, fewer.routes..content.routes)?;
        Ok((original, Subject::gateway(name, node, process, content)))
    }

    fn proxies(&self) -> Result<Vec<Subject>> {
        let mut subjects = Vec::new();
        if self.args.wants("direct") {
            subjects.push(Subject::direct(self.upstream));
        }
        // Without the yardstick no ratio, so it is part of every selection that has rounds.
        if SUBJECTS.iter().any(|name| self.args.wants(name)) {
            subjects.push(Subject::bare(
                &self.binaries.bare,
                self.upstream,
                self.threads,
                self.folder,
            )?);
        }
        if self.args.wants("nginx") {
            subjects.push(Subject::nginx(self.upstream, self.threads, self.folder)?);
        }
        Ok(subjects)
    }

    fn contents(&self) -> [(&'static str, Content); 6] {
        let one = Content::ONE_ROUTE;
        let key_auth = Content {
            consumers: 1,
            key_auth: true,
            ..one
        };
        let Args {
            routes, consumers, ..
        } = *self.args;
        [
            ("plain", one),
            ("key-auth", key_auth),
            (
                "key-auth+rate-limiting",
                Content {
                    rate_limiting: true,
                    ..key_auth
                },
            ),
            ("routes", Content { routes, ..one }),
            (
                "consumers",
                Content {
                    consumers,
                    ..key_auth
                },
            ),
            (
                "routes+consumers",
                Content {
                    routes,
                    consumers,
                    ..key_auth
                },
            ),
        ]
    }

    fn rounds(&self, subjects: &[Subject]) -> Result<Value> {
        let subjects: Vec<_> = subjects
            .iter()
            .filter(|s| s.name == YARDSTICK || self.args.wants(&s.name))
            .collect();
        let different = self.args.routes.max(self.args.consumers);
        let load = Load::new(self.folder, self.args.connections)?;
        for subject in &subjects {
            load.prepare(&subject.name, &subject.content.targets(different))?;
            // Connections, caches and branch predictors get to know each other.
            load.run(&subject.name, subject.addr, 1, 0)?;
        }
        let mut rounds = Rounds::default();
        for number in 1..=self.args.rounds {
            let step = progress::step(&format!("round {number} of {}", self.args.rounds));
            // Each round begins with another subject, so that none always comes after the same one.
            for turn in 0..subjects.len() {
                let subject = subjects[(turn + number) % subjects.len()];
                step.at(&subject.name);
                let before = usage::of(subject.pid)?;
                let seen = load.run(&subject.name, subject.addr, self.args.seconds, number)?;
                rounds.add(
                    &subject.name,
                    Sample::new(seen, before, usage::of(subject.pid)?),
                );
            }
            step.done();
        }
        Ok(rounds.figures(&SUBJECTS.map(str::to_owned)))
    }

    /// Three nodes on one Postgres.
    fn change(&self, name: &str, routes: usize) -> Result<Value> {
        let content = Content {
            routes,
            ..Content::default()
        };
        let step = progress::step(&format!("changes seen by three nodes, {routes} routes"));
        let (first, mut process) = self.gateways.start_empty(name)?;
        content.create(first.ports, &self.upstream.url())?;
        let mut nodes = vec![first];
        let mut others = Vec::new();
        for number in 2..=3 {
            let node = self
                .gateways
                .node(&format!("{name}-{number}"), &database_name(name))?;
            others.push(node.start()?);
            nodes.push(node);
        }
        for node in &nodes {
            await_last(node, content, Duration::from_secs(60))?;
        }
        let ports: Vec<_> = nodes.iter().map(|node| node.ports).collect();
        let result = change::measure(&ports, self.args.changes, name)?;
        for process in others.iter_mut().chain([&mut process]) {
            process.stop(Duration::from_secs(10));
        }
        step.done();
        Ok(result)
    }

    /// From the start of a node that has never run to its first answer from the last route with the last key.
    fn cold(&self) -> Result<Value> {
        let Args {
            routes, consumers, ..
        } = *self.args;
        let content = Content {
            routes,
            consumers,
            key_auth: true,
            rate_limiting: false,
        };
        let database = if self.args.wants("routes+consumers") {
            self.gateways.copy_database("cold", "routes+consumers")?
        } else {
            let step = progress::step("filling for the cold start");
            let (node, mut process) = self.gateways.start_empty("cold")?;
            content.create(node.ports, &self.upstream.url())?;
            process.stop(Duration::from_secs(10));
            step.done();
            database_name("cold")
        };
        let step = progress::step("cold starts");
        let mut times = Vec::new();
        for number in 1..=3 {
            let node = self.gateways.node(&format!("cold-{number}"), &database)?;
            let start = Instant::now();
            let mut process = node.spawn()?;
            let last = content.targets(1).pop().context("nothing to ask for")?;
            let key = last.key.unwrap_or_default();
            process.wait_until(Duration::from_secs(60), || {
                let answer = Client::new(node.ports.proxy_addr()).send(
                    "GET",
                    &last.path,
                    &[("apikey", &key)],
                    b"",
                );
                answer.is_ok_and(|r| r.status == 200)
            })?;
            times.push(round(start.elapsed().as_secs_f64(), 3));
            process.stop(Duration::from_secs(10));
        }
        step.done();
        Ok(
            json!({"routes": routes, "consumers": consumers, "seconds": times, "median": report::median(times.clone())}),
        )
    }
}

/// Waits until a node answers from the last route with the last key.
fn await_last(node: &Node, content: Content, limit: Duration) -> Result<()> {
    let last = content.targets(1).pop().context("nothing to ask for")?;
    let key = last.key.unwrap_or_default();
    let mut client = Client::new(node.ports.proxy_addr());
    let end = Instant::now() + limit;
    loop {
        let answer = client.send("GET", &last.path, &[("apikey", &key)], b"");
        match answer {
            Ok(response) if response.status == 200 => return Ok(()),
            Ok(response) if Instant::now() >= end => {
                bail!(
                    "{} is still answered {}: {}",
                    last.path,
                    response.status,
                    response.text().trim()
                )
            }
            Err(error) if Instant::now() >= end => return Err(error.into()),
            _ => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}
