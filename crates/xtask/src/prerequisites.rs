//! What has to be on the machine, and how it gets there: apt as root, a sentence to copy for everyone else.
//!
//! Nothing that is there already is touched. Debian starts the servers it installs: a system Postgres or nginx may run
//! afterwards; nothing here connects to them.

use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use nix::unistd::geteuid;
use silverback_testkit::{postgres, process, redis};

use crate::progress;

/// A Debian package and how to tell that what it brings is there, wherever it came from.
struct Need {
    package: &'static str,
    probe: fn() -> bool,
}

/// What a command needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum For {
    /// Building and running the gateway.
    Demo,
    /// Also what tests run against.
    Test,
    /// Also what it is measured with.
    Bench,
}

const BUILD: &[Need] = &[
    Need {
        package: "build-essential",
        probe: || ["cc", "c++", "make"].iter().all(|p| has(p)),
    },
    Need {
        package: "cmake",
        probe: || has("cmake"),
    },
    Need {
        package: "pkg-config",
        probe: || has("pkg-config"),
    },
    Need {
        package: "libssl-dev",
        probe: has_openssl,
    },
    Need {
        package: "postgresql",
        probe: postgres::is_installed,
    },
    Need {
        package: "curl",
        probe: || has("curl"),
    },
    Need {
        package: "ca-certificates",
        probe: || Path::new("/etc/ssl/certs/ca-certificates.crt").exists(),
    },
];

/// `redis-tools` holds the server's program without a service that would be started.
const TEST: &[Need] = &[Need {
    package: "redis-tools",
    probe: redis::is_installed,
}];

const BENCH: &[Need] = &[
    Need {
        package: "nginx",
        probe: || has("nginx"),
    },
    Need {
        package: "wrk",
        probe: || has("wrk"),
    },
];

/// Installs what is missing.
pub(crate) fn ensure(purpose: For) -> Result<()> {
    let missing = missing(purpose);
    if missing.is_empty() {
        return Ok(());
    }
    if !geteuid().is_root() || !has("apt-get") {
        bail!("{}", advice(&missing));
    }
    let step = progress::step(&format!("installing with apt: {}", missing.join(" ")));
    apt(&["update"])?;
    let mut install = vec!["install", "-y", "--no-install-recommends"];
    install.extend(&missing);
    apt(&install)?;
    let still = self::missing(purpose);
    if !still.is_empty() {
        bail!("installed, but still not found: {}", still.join(" "));
    }
    step.done();
    Ok(())
}

fn missing(purpose: For) -> Vec<&'static str> {
    let sets: &[&[Need]] = match purpose {
        For::Demo => &[BUILD],
        For::Test => &[BUILD, TEST],
        For::Bench => &[BUILD, BENCH],
    };
    let needs = sets.iter().copied().flatten();
    needs
        .filter(|need| !(need.probe)())
        .map(|need| need.package)
        .collect()
}

fn advice(missing: &[&str]) -> String {
    format!(
        "missing: {0}\nInstall what brings it, on Debian or Ubuntu as root:\n\n    apt-get update && apt-get install -y --no-install-recommends {0}\n",
        missing.join(" ")
    )
}

fn apt(args: &[&str]) -> Result<()> {
    let log = std::env::temp_dir().join(format!("silverback-apt-{}.log", std::process::id()));
    let file = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
    let status = Command::new("apt-get")
        .arg("-q")
        .args(args)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdin(Stdio::null())
        .stdout(file.try_clone()?)
        .stderr(file)
        .status()
        .context("cannot start apt-get")?;
    let said = std::fs::read_to_string(&log).unwrap_or_default();
    // Only of use when something went wrong, and then it is part of the message.
    let _kept = std::fs::remove_file(&log);
    if !status.success() {
        let tail: Vec<_> = said.lines().rev().take(15).collect();
        let tail: Vec<_> = tail.into_iter().rev().collect();
        bail!("apt-get {} failed:\n{}", args.join(" "), tail.join("\n"));
    }
    Ok(())
}

fn has(program: &str) -> bool {
    process::find_program(program).is_some()
}

fn has_openssl() -> bool {
    Path::new("/usr/include/openssl/ssl.h").exists()
        || Command::new("pkg-config")
            .args(["--exists", "openssl"])
            .status()
            .is_ok_and(|status| status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_advice_is_a_line_to_copy() {
        let text = advice(&["cmake", "postgresql"]);
        assert!(
            text.contains("apt-get install -y --no-install-recommends cmake postgresql\n"),
            "{text}"
        );
    }
}
