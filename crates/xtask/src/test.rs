//! `cargo xtask test`: everything that has to hold before a change goes in, and how long each part took.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use silverback_testkit::{postgres, redis};

use crate::prerequisites::{self, For};
use crate::{docs, repo, schemathesis, walls};

/// What is asked for on the command line.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The inner loop: formatting, walls and unit tests only.
    #[arg(long)]
    fast: bool,
    /// With --fast: only these packages.
    #[arg(short, long = "package", value_name = "NAME", requires = "fast")]
    packages: Vec<String>,
}

/// Runs the steps; all of them, so that one look shows everything that is wrong.
pub(crate) fn run(args: &Args) -> Result<()> {
    prerequisites::ensure(For::Test)?;
    let mut steps = Steps::default();
    steps.run("format", || {
        repo::run(&mut repo::cargo(&["fmt", "--all", "--check"]))
    });
    steps.run("walls", || {
        let crossed = walls::check(&repo::metadata()?);
        if crossed.is_empty() {
            Ok(())
        } else {
            bail!("{}", crossed.join("\n"))
        }
    });
    if args.fast {
        steps.run("unit tests", || repo::run(&mut unit_tests(&args.packages)));
        return steps.finish();
    }
    steps.run("documents", || docs::run(true));
    steps.run("clippy", || {
        repo::run(&mut repo::cargo(&[
            "clippy",
            "--workspace",
            "--all-targets",
            "--",
            "-D",
            "warnings",
        ]))
    });
    steps.run("rustdoc", || {
        let mut command = repo::cargo(&["doc", "--workspace", "--no-deps"]);
        repo::run(command.env("RUSTDOCFLAGS", "-D warnings"))
    });
    // One of each for the whole run, whatever number of processes the runner makes of it.
    let postgres = postgres::Server::start()?;
    let redis = redis::Server::start()?;
    steps.run("tests", || {
        let mut command = all_tests();
        command.env(postgres::URL_VARIABLE, postgres.url("postgres"));
        command.env(redis::URL_VARIABLE, redis.url());
        repo::run(&mut command)
    });
    drop((postgres, redis));
    // nextest runs none of them, and the tutorial's code is among them.
    steps.run("doc tests", || {
        repo::run(&mut repo::cargo(&["test", "--doc", "--workspace"]))
    });
    match schemathesis::ready() {
        Ok(tool) => steps.run("schemathesis", || {
            schemathesis::probe(&tool, schemathesis::SHORT)
        }),
        Err(why) if schemathesis::is_required() => steps.run("schemathesis", || Err(why)),
        Err(why) => steps.skip("schemathesis", &why),
    }
    steps.run("demo", || {
        let folder = repo::target_dir()?.join("demo-check");
        let mut command = repo::cargo(&["run", "--quiet", "--package", "xtask", "--"]);
        repo::run(
            command
                .args(["demo", "--check", "--debug", "--fresh", "--data"])
                .arg(folder),
        )
    });
    steps.finish()
}

fn unit_tests(packages: &[String]) -> Command {
    let mut command = repo::cargo(&["test"]);
    if packages.is_empty() {
        command.args([
            "--lib",
            "--bins",
            "--workspace",
            "--exclude",
            "silverback-tests",
        ]);
    } else {
        // A package may have no library, and asking for one by name fails then.
        command.arg("--all-targets");
    }
    for package in packages {
        command.args(["--package", package]);
    }
    command
}

/// All tests: with nextest where it is installed, else as cargo runs them.
fn all_tests() -> Command {
    let mut nextest = repo::cargo(&["nextest", "--version"]);
    nextest.stdout(Stdio::null()).stderr(Stdio::null());
    if nextest.status().is_ok_and(|status| status.success()) {
        repo::cargo(&["nextest", "run", "--workspace", "--no-fail-fast"])
    } else {
        repo::cargo(&["test", "--workspace", "--all-targets", "--no-fail-fast"])
    }
}

#[derive(Default)]
struct Steps {
    done: Vec<(&'static str, Duration, bool)>,
    /// Steps that could not be made, and why.
    skipped: Vec<(&'static str, String)>,
}

impl Steps {
    fn run(&mut self, name: &'static str, step: impl FnOnce() -> Result<()>) {
        println!("== {name}");
        let start = Instant::now();
        let result = step();
        if let Err(error) = &result {
            eprintln!("{error:#}");
        }
        self.done.push((name, start.elapsed(), result.is_ok()));
    }

    /// Says that a step was left out, now and at the end.
    fn skip(&mut self, name: &'static str, why: &anyhow::Error) {
        println!("== {name}: NOT RUN");
        eprintln!("{why:#}");
        self.skipped.push((name, format!("{why:#}")));
    }

    fn finish(self) -> Result<()> {
        println!("\n{}", self.summary());
        let failed: Vec<_> = self
            .done
            .iter()
            .filter(|(_, _, ok)| !ok)
            .map(|(name, ..)| *name)
            .collect();
        if failed.is_empty() {
            Ok(())
        } else {
            bail!("failed: {}", failed.join(", "))
        }
    }

    fn summary(&self) -> String {
        let lines = self.done.iter().map(|(name, time, ok)| {
            format!(
                "{:<12} {:>8.1} s  {}",
                name,
                time.as_secs_f64(),
                if *ok { "ok" } else { "FAILED" }
            )
        });
        let skipped = self.skipped.iter().map(|(name, why)| {
            let why = why.lines().next().unwrap_or_default();
            format!("{name:<12} {:>10}  NOT RUN: {why}", "")
        });
        lines.chain(skipped).collect::<Vec<_>>().join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_step_does_not_hide_the_next_and_fails_the_whole() {
        let mut steps = Steps::default();
        steps.run("one", || bail!("broken"));
        steps.run("two", || Ok(()));
        let summary = steps.summary();
        assert!(
            summary
                .lines()
                .next()
                .is_some_and(|l| l.starts_with("one") && l.ends_with("FAILED")),
            "{summary}"
        );
        assert!(
            summary.lines().nth(1).is_some_and(|l| l.ends_with("ok")),
            "{summary}"
        );
        steps.skip("three", &anyhow::anyhow!("no network"));
        assert!(steps.summary().ends_with("NOT RUN: no network"));
        assert!(
            steps
                .finish()
                .is_err_and(|e| e.to_string() == "failed: one")
        );
    }
}
