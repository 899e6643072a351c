//! The load: wrk, told by a script of ours what to ask and how to tell what it saw.

use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use silverback_testkit::process::Program;

/// One kind of request: a path and perhaps a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) path: String,
    pub(super) key: Option<String>,
}

/// What wrk saw in one run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Seen {
    pub(super) requests: u64,
    pub(super) seconds: f64,
    pub(super) p50_us: u64,
    pub(super) p99_us: u64,
    /// Answers other than 2xx and 3xx, and broken connections.
    pub(super) errors: u64,
}

/// Every subject is asked by the same script, so that what the script costs is the same for all.
const SCRIPT: &str = r#"
local requests = {}
function init(args)
  math.randomseed(tonumber(args[2]))
  for line in io.lines(args[1]) do
    local path, key = line:match("^(%S+)%s*(%S*)$")
    local headers = {}
    if key ~= "" then headers["apikey"] = key end
    requests[#requests + 1] = wrk.format("GET", path, headers)
  end
end
function request()
  return requests[math.random(#requests)]
end
function done(summary, latency)
  local e = summary.errors
  io.write(string.format("\nRESULT %d %d %d %d %d\n", summary.requests, summary.duration,
    latency:percentile(50), latency:percentile(99), e.connect + e.read + e.write + e.timeout + e.status))
end
"#;

/// The load generator with its files in a folder.
#[derive(Debug)]
pub(super) struct Load {
    folder: PathBuf,
    connections: usize,
}

impl Load {
    /// Writes the script.
    pub(super) fn new(folder: &Path, connections: usize) -> Result<Self> {
        fs::write(folder.join("load.lua"), SCRIPT).context("cannot write wrk's script")?;
        Ok(Self {
            folder: folder.to_owned(),
            connections,
        })
    }

    /// Writes down what a subject is asked.
    pub(super) fn prepare(&self, subject: &str, targets: &[Target]) -> Result<()> {
        let mut text = String::new();
        for target in targets {
            // Writing to a String cannot fail.
            let _infallible = writeln!(
                text,
                "{} {}",
                target.path,
                target.key.as_deref().unwrap_or("")
            );
        }
        fs::write(self.targets(subject), text).context("cannot write wrk's targets")
    }

    /// Asks a subject for some seconds, with every connection always busy.
    pub(super) fn run(
        &self,
        subject: &str,
        addr: SocketAddr,
        seconds: u64,
        seed: usize,
    ) -> Result<Seen> {
        let said = Program::new("wrk")
            .args([
                "-t",
                "1",
                "-c",
                &self.connections.to_string(),
                "-d",
                &format!("{seconds}s"),
                "-s",
            ])
            .arg(self.folder.join("load.lua"))
            .arg(format!("http://{addr}"))
            .arg("--")
            .arg(self.targets(subject))
            .arg(seed.to_string())
            .output()?;
        parse(&said).with_context(|| format!("wrk said about {subject}:\n{said}"))
    }

    fn targets(&self, subject: &str) -> PathBuf {
        self.folder.join(format!("{subject}.targets"))
    }
}

fn parse(said: &str) -> Result<Seen> {
    let line = said
        .lines()
        .find_map(|line| line.strip_prefix("RESULT "))
        .context("no result")?;
    let numbers = line
        .split_whitespace()
        .map(str::parse)
        .collect::<Result<Vec<u64>, _>>()?;
    let [requests, micros, p50_us, p99_us, errors] = numbers[..] else {
        bail!("a result has five numbers")
    };
    if requests == 0 || micros == 0 {
        bail!("not one request was answered");
    }
    #[allow(clippy::cast_precision_loss)] // Microseconds of a run: far below 2^52.
    let seconds = micros as f64 / 1e6;
    Ok(Seen {
        requests,
        seconds,
        p50_us,
        p99_us,
        errors,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_result_line_is_found_among_what_wrk_says() {
        let said =
            "Running 5s test @ http://x\n  Latency ...\n\nRESULT 100000 5000000 700 2100 3\n";
        let expected = Seen {
            requests: 100_000,
            seconds: 5.0,
            p50_us: 700,
            p99_us: 2100,
            errors: 3,
        };
        assert_eq!(parse(said).unwrap(), expected);
    }

    #[test]
    fn a_run_without_answers_is_an_error() {
        assert!(parse("RESULT 0 5000000 0 0 12\n").is_err());
        assert!(parse("unable to connect\n").is_err());
        assert!(parse("RESULT 1 2\n").is_err());
    }
}
