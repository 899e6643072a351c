//! `stop`, `quit`, `reload` and `health`: what is done to a gateway that runs, found by its prefix.

use std::time::Duration;

use nix::sys::signal::Signal;

use super::args::{Locate, Quit, Stop};
use super::load;
use super::prefix::PrefixError;
use super::terminal::Terminal;
use crate::config::Loader;

/// How long a gateway may take to end after SIGTERM.
const TERM_TIMEOUT: Duration = Duration::from_secs(5);

pub(super) fn stop(
    args: &Stop,
    terminal: &mut Terminal<'_>,
    loader: &Loader,
) -> anyhow::Result<u8> {
    let running = args.locate.prefix(loader)?.running()?;
    terminal.verbose(format!("sending TERM signal to process {}", running.pid()));
    running.signal(Signal::SIGTERM)?;
    if !running.wait_gone(args.timeout)? {
        anyhow::bail!(
            "Silverback (process {}) is still running after {:?}",
            running.pid(),
            args.timeout
        );
    }
    terminal.say("Silverback stopped");
    Ok(0)
}

pub(super) fn quit(
    args: &Quit,
    terminal: &mut Terminal<'_>,
    loader: &Loader,
) -> anyhow::Result<u8> {
    let prefix = args.locate.prefix(loader)?;
    let running = prefix.running()?;
    if !args.wait.is_zero() {
        terminal.verbose(format!("waiting {:?} before quitting", args.wait));
        if running.wait_gone(args.wait)? {
            anyhow::bail!("Silverback stopped while waiting (unexpected)");
        }
    }
    // The gateway ends by itself after its own timeout; ours is for one that hangs.
    let timeout = args.timeout.unwrap_or_else(|| {
        let configured = loader.clone().running_at(prefix.path()).load();
        let graceful = configured.map_or(Duration::from_secs(10), |loaded| {
            loaded.config.graceful_stop_timeout
        });
        graceful.saturating_add(Duration::from_secs(1))
    });
    terminal.verbose(format!("sending QUIT signal to process {}", running.pid()));
    running.signal(Signal::SIGQUIT)?;
    terminal.verbose("waiting for it to finish processing requests");
    if running.wait_gone(timeout.max(Duration::from_secs(1)))? {
        terminal.say("Silverback stopped (gracefully)");
        return Ok(0);
    }
    terminal.verbose(format!(
        "still running at {}, forcing shutdown",
        prefix.path().display()
    ));
    match running.signal(Signal::SIGTERM) {
        // It ended in between.
        Ok(()) | Err(PrefixError::NotRunning(_)) => {}
        Err(error) => return Err(error.into()),
    }
    if !running.wait_gone(TERM_TIMEOUT)? {
        anyhow::bail!("Silverback (process {}) is still running", running.pid());
    }
    terminal.say("Timeout, Silverback stopped forcefully");
    Ok(0)
}

pub(super) fn reload(
    args: &Locate,
    terminal: &mut Terminal<'_>,
    loader: &Loader,
) -> anyhow::Result<u8> {
    let prefix = args.prefix(loader)?;
    let running = prefix.running()?;
    let loader = loader
        .clone()
        .running_at(prefix.path())
        .file(args.conf.as_deref());
    let config = load(&loader, terminal)?;
    if args.conf.is_some() {
        prefix.record_file(config.origin().file.as_deref())?;
    }
    terminal.verbose(format!("sending HUP signal to process {}", running.pid()));
    running.signal(Signal::SIGHUP)?;
    terminal.say("Silverback reloaded");
    Ok(0)
}

pub(super) fn health(
    args: &Locate,
    terminal: &mut Terminal<'_>,
    loader: &Loader,
) -> anyhow::Result<u8> {
    let prefix = args.prefix(loader)?;
    let running = prefix.find()?;
    let state = if running.is_some() {
        "running"
    } else {
        "not running"
    };
    terminal.say(format!("{:.<12}{state}\n", "silverback"));
    if running.is_none() {
        anyhow::bail!("Silverback is not running at {}", prefix.path().display());
    }
    terminal.say(format!(
        "Silverback is healthy at {}",
        prefix.path().display()
    ));
    Ok(0)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::Prefix;
    use super::super::testing::{Fake, run};

    #[test]
    fn health_says_whether_it_runs() {
        let dir = tempfile::tempdir().unwrap();
        let prefix = Prefix::new(dir.path().to_owned());
        prefix.prepare().unwrap();
        let path = dir.path().to_str().unwrap();

        let answer = run(&Fake::default(), &["health", "-p", path], None);
        assert_eq!(answer.code, 1);
        assert_eq!(answer.out, "silverback..not running\n\n");
        assert!(
            answer
                .err
                .contains(&format!("Silverback is not running at {path}")),
            "{}",
            answer.err
        );

        let _claim = prefix.claim().unwrap();
        let answer = run(&Fake::default(), &["health", "-p", path], None);
        assert_eq!(answer.code, 0);
        assert_eq!(
            answer.out,
            format!("silverback..running\n\nSilverback is healthy at {path}\n")
        );
    }

    #[test]
    fn nothing_to_stop_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let missing = dir.path().join("missing");
        for command in ["stop", "quit", "reload"] {
            let answer = run(
                &Fake::default(),
                &[command, "-p", dir.path().to_str().unwrap()],
                None,
            );
            assert_eq!(answer.code, 1);
            assert!(
                answer.err.contains("Silverback is not running in prefix: "),
                "{}",
                answer.err
            );
            let answer = run(
                &Fake::default(),
                &[command, "-p", missing.to_str().unwrap()],
                None,
            );
            assert!(answer.err.contains("no such prefix: "), "{}", answer.err);
        }
    }

    #[test]
    fn reload_leaves_the_gateway_alone_when_the_configuration_is_wrong() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("s.conf");
        std::fs::write(&file, "pg_port = x\n").unwrap();
        let prefix = Prefix::new(dir.path().join("p"));
        prefix.prepare().unwrap();
        let _claim = prefix.claim().unwrap();
        // A SIGHUP would end the process of this test.
        let arguments = [
            "reload",
            "-c",
            file.to_str().unwrap(),
            "-p",
            prefix.path().to_str().unwrap(),
        ];
        let answer = run(&Fake::default(), &arguments, None);
        assert_eq!(answer.code, 1);
        assert!(
            answer.err.contains("pg_port is not a number: 'x'"),
            "{}",
            answer.err
        );
    }
}
