//! `cargo xtask schemathesis`: a gateway on an empty database, and Schemathesis against it, which reads `GET /openapi.json` and makes requests
//! of it that keep to it and requests that do not. No answer may be a 5xx, and none may be outside what the document says.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use silverback_testkit::{postgres, process};

use crate::gateway::{Database, Node, Ports};
use crate::prerequisites::{self, For};
use crate::{progress, repo};

/// The one that is used; a newer one may find more, and is taken on purpose.
const VERSION: &str = "4.32.5";

/// Set to `required`, as in CI, a tool that cannot be had is a failure and not a remark.
const REQUIRED: &str = "SILVERBACK_SCHEMATHESIS";

/// How long `cargo xtask test` probes.
pub(crate) const SHORT: Duration = Duration::from_secs(75);

/// What an answer must be: not a 5xx, of a status, a type and a form that the document names.
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance";

/// All findings of a run at once, nothing kept between runs, no advice. One worker: Python up to 3.12 cannot parse Python in two threads at
/// once (`SystemError: AST constructor recursion depth mismatch`), and Hypothesis does.
///
/// `/status/dns` answers 501, as Kong's does with the DNS client it has by default, and there is nothing else to ask it.
const SETTINGS: [&str; 14] = [
    "--exclude-path",
    "/status/dns",
    "--workers",
    "1",
    "--no-color",
    "--request-timeout",
    "20",
    "--continue-on-failure",
    "--warnings",
    "off",
    "--suppress-health-check",
    "all",
    "--generation-database",
    "none",
];

/// What is asked for on the command line.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How long to probe.
    #[arg(long, default_value = "10")]
    minutes: u64,
    /// Repeat an earlier run's random choices.
    #[arg(long)]
    seed: Option<u64>,
    /// Only operations whose path matches this regular expression.
    #[arg(long, value_name = "REGEX")]
    path: Option<String>,
}

/// The tool, installed.
pub(crate) struct Tool {
    program: PathBuf,
}

/// Runs it.
pub(crate) fn run(args: &Args) -> Result<()> {
    prerequisites::ensure(For::Test)?;
    let tool = ready()?;
    let mut more = Vec::new();
    if let Some(seed) = args.seed {
        more.extend(["--seed".to_owned(), seed.to_string()]);
    }
    if let Some(path) = &args.path {
        more.extend(["--include-path-regex".to_owned(), path.clone()]);
    }
    probe_with(&tool, Duration::from_secs(args.minutes * 60), &more)
}

/// Whether doing without it is a failure.
pub(crate) fn is_required() -> bool {
    std::env::var(REQUIRED).is_ok_and(|value| value == "required")
}

/// Installs the tool where cargo puts what it builds, if it is not there.
///
/// # Errors
/// When there is no Python to run it or no network to get it from.
pub(crate) fn ready() -> Result<Tool> {
    let folder = repo::target_dir()?.join(format!("schemathesis-{VERSION}"));
    let program = folder.join("bin/schemathesis");
    if !runs(&program) {
        let step = progress::step(&format!("installing Schemathesis {VERSION}"));
        install(&folder).with_context(|| {
            format!("Schemathesis {VERSION} cannot be installed (needs python3 with venv, and the network)")
        })?;
        if !runs(&program) {
            bail!(
                "Schemathesis was installed and does not run: {}",
                program.display()
            );
        }
        step.done();
    }
    Ok(Tool { program })
}

/// Probes a gateway of its own for that long.
pub(crate) fn probe(tool: &Tool, time: Duration) -> Result<()> {
    probe_with(tool, time, &[])
}

fn probe_with(tool: &Tool, time: Duration, more: &[String]) -> Result<()> {
    let binary = repo::build(&["silverback"], false)?.join("silverback");
    let folder = repo::target_dir()?.join("schemathesis");
    // Of an earlier run.
    let _none = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let postgres = postgres::Server::start()?;
    let node = Node {
        binary,
        prefix: folder.join("gateway"),
        ports: Ports::free()?,
        host: "127.0.0.1".to_owned(),
        database: Database::parse(&postgres.url("postgres"))?,
        workers: Some(1),
        extra: vec![("admin_access_log", "off".to_owned())],
    };
    node.write_conf()?;
    node.migrate()?;
    let mut gateway = node.start()?;
    let url = format!("http://{}/openapi.json", node.ports.admin_addr());
    // First without deleting, so that there are rows to be asked for, then with everything.
    let keep = ["--exclude-method", "DELETE"].map(str::to_owned);
    let mut found = Vec::new();
    for (name, share, args) in [
        ("without DELETE", time * 2 / 3, &keep[..]),
        ("all methods", time / 3, &[]),
    ] {
        println!("-- {name}");
        let status = Command::new(&tool.program)
            .current_dir(&folder)
            .args(["run", &url, "--checks", CHECKS])
            .args(SETTINGS)
            .arg("--max-time")
            .arg(share.as_secs().max(1).to_string())
            .args(args)
            .args(more)
            .stdin(Stdio::null())
            .status()
            .context("cannot start Schemathesis")?;
        if !status.success() {
            found.push(format!("{name} ({status})"));
        }
    }
    if !gateway.is_running() || !node.answers() {
        bail!("the gateway did not survive, see {}", node.log().display());
    }
    gateway.kill();
    if !found.is_empty() {
        bail!(
            "Schemathesis found something: {}; the gateway's log is {}",
            found.join(", "),
            node.log().display()
        );
    }
    Ok(())
}

fn runs(program: &Path) -> bool {
    let mut command = Command::new(program);
    command
        .arg("--version")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

fn install(folder: &Path) -> Result<()> {
    let python = process::find_program("python3").context("there is no python3")?;
    // Half of an earlier attempt would be in the way.
    let _none = fs::remove_dir_all(folder);
    quietly(Command::new(python).args(["-m", "venv"]).arg(folder))?;
    let package = format!("schemathesis=={VERSION}");
    quietly(Command::new(folder.join("bin/pip")).args([
        "install",
        "--quiet",
        "--disable-pip-version-check",
        &package,
    ]))
}

/// Runs a command whose words are only of use when it fails.
fn quietly(command: &mut Command) -> Result<()> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start {}", command.get_program().display()))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let tail: Vec<&str> = said.lines().rev().take(5).collect();
        let tail: Vec<&str> = tail.into_iter().rev().collect();
        bail!(
            "{} failed: {}",
            command.get_program().display(),
            tail.join("\n")
        );
    }
    Ok(())
}
