//! `cargo xtask demo`: from a clone to a gateway that proxies, in one command.
//!
//! Everything it starts is its child and ends with it; what it keeps is one folder (`.demo`), whose Postgres the next demo
//! finds again.

mod calls;
mod upstream;

use std::fs::{self, File, TryLockError};
use std::net::SocketAddr;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::unistd::{User, geteuid};
use serde_json::json;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use silverback_testkit::client::Client;
use silverback_testkit::ports;
use silverback_testkit::postgres::{Cluster, Keep};
use silverback_testkit::process::{self, Process, Program};

use crate::gateway::{self, Admin, Database, Node, Ports};
use crate::prerequisites::{self, For};
use crate::{progress, repo};
use calls::{CALLS, KEY, LIMIT};

/// The database in the demo's Postgres.
const DATABASE: &str = "silverback";

/// What is asked for on the command line.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Forget what earlier demos have stored.
    #[arg(long)]
    fresh: bool,
    /// Use this Postgres instead of a private one: postgres://user:password@host:port/database
    #[arg(long, value_name = "URL", conflicts_with = "fresh")]
    database_url: Option<String>,
    /// Make the printed calls, say whether they were answered as they should, and end.
    #[arg(long, alias = "once")]
    check: bool,
    /// Build without optimisation, which is faster to build.
    #[arg(long)]
    debug: bool,
    /// Start this program instead of building one.
    #[arg(long, value_name = "FILE", conflicts_with = "debug")]
    binary: Option<PathBuf>,
    /// The address the proxy listens on; the Admin API stays on 127.0.0.1.
    #[arg(long, default_value = "127.0.0.1")]
    host: String,
    /// Where Postgres, configuration and logs are kept; .demo in the repository unless told.
    #[arg(long, value_name = "FOLDER")]
    data: Option<PathBuf>,
}

/// Runs the demo until Ctrl-C, or until its check is done.
pub(crate) fn run(args: &Args) -> Result<()> {
    let signals = listen_for_signals()?;
    prerequisites::ensure(For::Demo)?;

    let folder = gateway::absolute(
        &args
            .data
            .clone()
            .unwrap_or_else(|| repo::root().join(".demo")),
    )?;
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let _lock = lock(&folder)?;

    let binary = match &args.binary {
        Some(binary) => gateway::absolute(binary)?,
        None => {
            eprintln!("building the gateway (the first time this takes minutes)");
            repo::build(&["silverback"], !args.debug)?.join("silverback")
        }
    };

    let mut postgres = None;
    let database = match &args.database_url {
        Some(url) => Database::parse(url)?,
        None => {
            let step = progress::step("starting Postgres");
            let cluster = start_postgres(&folder, args.fresh)?;
            let database = Database::parse(&cluster.url(DATABASE))?;
            postgres = Some(cluster);
            step.done();
            database
        }
    };
    let ports = ports::next_free_ports([8000, 8443, 8001, 8007], ports::is_port_free)
        .context("no free ports from 8000, 8001, 8007 and 8443 on")?;
    let [proxy, proxy_tls, admin, status] = ports;
    let node = Node {
        binary,
        prefix: folder.join("gateway"),
        ports: Ports {
            proxy,
            proxy_tls,
            admin,
            status,
        },
        host: args.host.clone(),
        database,
        workers: None,
        extra: Vec::new(),
    };
    node.write_conf()?;

    let step = progress::step("bringing the database up to date");
    node.migrate()?;
    step.done();

    let step = progress::step("starting the gateway and an upstream");
    let upstream = upstream::start()?;
    let mut gateway = node.start()?;
    step.done();

    let step = progress::step("configuring it over the Admin API");
    configure(node.ports, upstream)?;
    wait_until_it_takes_effect(&mut gateway, node.ports)?;
    step.done();

    let result = if args.check {
        check(node.ports)
    } else {
        println!("{}", text(&node, args.database_url.is_some()));
        wait(&signals, &mut gateway, &node)
    };
    let step = progress::step("stopping what was started");
    gateway.stop(Duration::from_secs(10));
    if let Some(cluster) = postgres.as_mut() {
        cluster.stop();
    }
    step.done();
    result
}

/// The calls for the README, at the ports the demo prefers.
pub(crate) fn calls_for_readme() -> Vec<String> {
    let ports = Ports {
        proxy: 8000,
        proxy_tls: 8443,
        admin: 8001,
        status: 8007,
    };
    let mut lines = vec!["```sh".to_owned()];
    for call in CALLS {
        lines.extend(call.shell(ports).lines().map(str::to_owned));
    }
    lines.push("```".into());
    lines
}

/// Makes Ctrl-C, SIGTERM and SIGHUP arrive as messages and not as a sudden end. Handlers rather than a blocked mask: what is
/// started here would inherit the mask and could not be stopped.
fn listen_for_signals() -> Result<mpsc::Receiver<()>> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).context("cannot wait for signals")?;
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        for (count, _) in signals.forever().enumerate() {
            // A second Ctrl-C ends at once, should stopping take too long: the kernel then tells the children.
            if count > 0 || sender.send(()).is_err() {
                std::process::exit(130);
            }
        }
    });
    Ok(receiver)
}

/// One demo per folder.
fn lock(folder: &Path) -> Result<File> {
    let path = folder.join("lock");
    let file = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => bail!("a demo runs already in {}", folder.display()),
        Err(TryLockError::Error(e)) => Err(e).context("cannot lock the demo's folder"),
    }
}

fn start_postgres(folder: &Path, fresh: bool) -> Result<Cluster> {
    let place = place_for_postgres(folder, fresh)?;
    let mut cluster = Cluster::open(&place, Keep::Durable)?;
    cluster.start()?;
    cluster.ensure_database(DATABASE)?;
    Ok(cluster)
}

/// A folder that the user Postgres runs as can reach: in the demo's, else (a clone under /root, say) in /var/tmp.
fn place_for_postgres(folder: &Path, fresh: bool) -> Result<PathBuf> {
    let user = process::unprivileged_user()?;
    let near = folder.join("postgres");
    let far = PathBuf::from(format!(
        "/var/tmp/silverback-demo-{:016x}",
        fnv1a(folder.as_os_str().as_encoded_bytes())
    ));
    for place in [&near, &far] {
        if fresh {
            remove(place)?;
        }
        prepare(place, user.as_ref())?;
        let program = Program::new("test").user(user.clone()).arg("-w").arg(place);
        if program.output().is_ok() {
            return Ok(place.clone());
        }
        // Only ever empty: Postgres could not have been started in it.
        let _kept_if_not_empty = fs::remove_dir(place);
    }
    bail!(
        "neither {} nor {} can be used by the user Postgres runs as",
        near.display(),
        far.display()
    )
}

fn prepare(place: &Path, user: Option<&User>) -> Result<()> {
    let what = || format!("cannot make {}", place.display());
    fs::create_dir_all(place).with_context(what)?;
    let owner = user.map_or_else(|| geteuid().as_raw(), |user| user.uid.as_raw());
    let found = fs::symlink_metadata(place).with_context(what)?;
    // Anybody may make folders in /var/tmp: not ours, not used.
    if !found.is_dir() || ![owner, geteuid().as_raw()].contains(&found.uid()) {
        bail!("{} belongs to somebody else", place.display());
    }
    if let Some(user) = user {
        chown(place, Some(user.uid.as_raw()), Some(user.gid.as_raw())).with_context(what)?;
    }
    fs::set_permissions(place, fs::Permissions::from_mode(0o700)).with_context(what)
}

fn remove(place: &Path) -> Result<()> {
    match fs::remove_dir_all(place) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(e).with_context(|| format!("cannot remove {}", place.display()))
        }
        _ => Ok(()),
    }
}

/// Creates what the calls need. Each entity is put under a name or an id of its own, so that the next demo finds it rather
/// than adding another.
fn configure(ports: Ports, upstream: SocketAddr) -> Result<()> {
    let mut admin = Admin::new(ports);
    let service = admin.send(
        "PUT",
        "/services/echo",
        &json!({"url": format!("http://{upstream}"), "tags": ["demo"]}),
    )?;
    let service = json!({"id": service["id"]});
    admin.send(
        "PUT",
        "/routes/echo",
        &json!({"paths": ["/echo"], "service": service, "tags": ["demo"]}),
    )?;
    admin.send(
        "PUT",
        "/consumers/demo",
        &json!({"username": "demo", "tags": ["demo"]}),
    )?;
    let id = |number: u8| format!("d3300000-0000-4000-8000-{number:012}");
    admin.send(
        "PUT",
        &format!("/consumers/demo/key-auth/{}", id(1)),
        &json!({"key": KEY}),
    )?;
    // Their numbers stay: the next version of the demo finds by them what this one has stored.
    let plugins = [
        (2, "key-auth", json!({"key_names": ["apikey"]})),
        (
            4,
            "correlation-id",
            json!({"header_name": "X-Correlation-ID", "echo_downstream": true}),
        ),
        (5, "retry", json!({})),
        // Last, since its headers tell that all of it has taken effect.
        (
            3,
            "rate-limiting",
            json!({"minute": LIMIT, "policy": "local"}),
        ),
    ];
    for (number, name, config) in plugins {
        let plugin = json!({"name": name, "service": service, "config": config, "tags": ["demo"]});
        admin.send("PUT", &format!("/plugins/{}", id(number)), &plugin)?;
    }
    Ok(())
}

/// The proxy learns of changes a moment after the Admin API has stored them, in their order: the last one is waited for.
fn wait_until_it_takes_effect(gateway: &mut Process, ports: Ports) -> Result<()> {
    let limited = || {
        let answer =
            Client::new(ports.proxy_addr()).send("GET", "/echo/hello", &[("apikey", KEY)], b"");
        answer.is_ok_and(|r| r.header("X-RateLimit-Limit-Minute").is_some())
    };
    gateway
        .wait_until(Duration::from_secs(15), limited)
        .context("the proxy does not do what it was told over the Admin API")?;
    Ok(())
}

fn check(ports: Ports) -> Result<()> {
    for call in CALLS {
        call.perform(ports)?;
        println!("ok: {}", call.shell(ports).replacen('\n', ": ", 1));
    }
    Ok(())
}

fn text(node: &Node, foreign_database: bool) -> String {
    let Ports {
        proxy,
        proxy_tls,
        admin,
        status,
    } = node.ports;
    let mut text = format!(
        "\nSilverback runs.\n\n  proxy   http://localhost:{proxy}  https://localhost:{proxy_tls}\n  \
         admin   http://localhost:{admin}\n  status  http://localhost:{status}/metrics\n  \
         files   {} (configuration), {} (log)\n\nTry, in another terminal:\n\n",
        node.conf().display(),
        node.log().display(),
    );
    for call in CALLS {
        text.push_str(&call.shell(node.ports));
        text.push_str("\n\n");
    }
    let kept = if foreign_database {
        ""
    } else {
        " What you store is there again next time (--fresh forgets it)."
    };
    text.push_str(&format!(
        "Ctrl-C stops the gateway and what was started for it.{kept}"
    ));
    text
}

fn wait(signals: &mpsc::Receiver<()>, gateway: &mut Process, node: &Node) -> Result<()> {
    loop {
        match signals.recv_timeout(Duration::from_millis(300)) {
            Err(RecvTimeoutError::Timeout) if gateway.is_running() => {}
            Err(RecvTimeoutError::Timeout) => {
                bail!(
                    "the gateway ended by itself, see {}:\n{}",
                    node.log().display(),
                    gateway.log_tail()
                )
            }
            _ => return Ok(()),
        }
    }
}

/// A hash that stays the same over releases of the compiler, since a folder is named by it.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_of_a_clone_keeps_its_name() {
        assert_eq!(fnv1a(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a(b"foobar"), 0x8594_4171_f739_67e8);
    }

    #[test]
    fn the_readme_shows_every_call_at_the_preferred_ports() {
        let lines = calls_for_readme();
        assert_eq!(lines.len(), 2 * CALLS.len() + 2);
        assert!(
            lines
                .iter()
                .any(|l| l == "curl -i http://localhost:8000/echo/hello")
        );
        let readme = std::fs::read_to_string(crate::repo::root().join("README.md")).unwrap();
        assert!(readme.contains(&lines.join("\n")), "no such block in it");
    }
}
