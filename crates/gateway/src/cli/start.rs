//! `start` and `restart`.

use std::process::Command;
use std::time::Duration;

use anyhow::Context as _;
use nix::sys::signal::Signal;

use super::args::{Locate, Restart, Start};
use super::terminal::Terminal;
use super::{
    Action, Commands, Migrations, Prefix, PrefixError, Ready, daemon, load, with_db_timeout,
};
use crate::config::{Config, Loader, record};

/// How long `restart` waits for the gateway that runs.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

pub(super) fn start(
    args: &Start,
    terminal: &mut Terminal<'_>,
    loader: &Loader,
    commands: &dyn Commands,
) -> anyhow::Result<u8> {
    if args.detached {
        // So that no signal of the terminal it was started from reaches it.
        nix::unistd::setsid().context("could not leave the session")?;
    }
    let loader = with_db_timeout(args.locate.apply(loader), args.db_timeout);
    let config = load(&loader, terminal)?;
    let prefix = Prefix::new(config.prefix.clone());
    prefix.prepare()?;
    if args.daemon {
        in_background(args, &config, &prefix, terminal)
    } else {
        in_foreground(args, config, &prefix, commands)
    }
}

pub(super) fn restart(
    args: &Restart,
    terminal: &mut Terminal<'_>,
    loader: &Loader,
    commands: &dyn Commands,
) -> anyhow::Result<u8> {
    let mut start = args.start.clone();
    let prefix = start.locate.prefix(loader)?;
    match prefix.find() {
        Ok(Some(running)) => {
            terminal.verbose(format!(
                "stopping the gateway at {}",
                prefix.path().display()
            ));
            running.signal(Signal::SIGTERM)?;
            if !running.wait_gone(STOP_TIMEOUT)? {
                anyhow::bail!("Silverback is still running at {}", prefix.path().display());
            }
        }
        Ok(None) | Err(PrefixError::NoSuchPrefix(_)) => {}
        Err(error) => return Err(error.into()),
    }
    if start.locate.conf.is_none() {
        // As it was started before.
        let recorded = std::fs::read_to_string(record(prefix.path())).unwrap_or_default();
        let file = recorded.trim();
        start.locate = Locate {
            conf: (!file.is_empty()).then(|| file.into()),
            prefix: Some(prefix.path().to_owned()),
        };
    }
    self::start(&start, terminal, loader, commands)
}

fn in_foreground(
    args: &Start,
    config: Config,
    prefix: &Prefix,
    commands: &dyn Commands,
) -> anyhow::Result<u8> {
    let claim = prefix.claim()?;
    prefix.record_file(config.origin().file.as_deref())?;
    if args.run_migrations {
        let up = Migrations {
            action: Action::Up,
            force: false,
            quiet: false,
            lock_timeout: Duration::from_secs(60),
        };
        let code = commands.migrations(&config, &up)?;
        if code != 0 {
            return Ok(code);
        }
    }
    let ready = if args.detached {
        Ready::detached().context("nobody waits for this process")?
    } else {
        Ready::foreground()
    };
    commands.run(config, ready)?;
    drop(claim);
    Ok(0)
}

fn in_background(
    args: &Start,
    config: &Config,
    prefix: &Prefix,
    terminal: &mut Terminal<'_>,
) -> anyhow::Result<u8> {
    if prefix.find()?.is_some() {
        return Err(PrefixError::AlreadyRunning(prefix.path().to_owned()).into());
    }
    let program = std::env::current_exe().context("could not find this program")?;
    let mut command = Command::new(program);
    command
        .args(["start", "--detached", "--prefix"])
        .arg(prefix.path());
    if let Some(file) = &config.origin().file {
        command.arg("--conf").arg(file);
    }
    if args.run_migrations {
        command.arg("--run-migrations");
    }
    if let Some(timeout) = args.db_timeout {
        command
            .arg("--db-timeout")
            .arg(timeout.as_secs_f64().to_string());
    }
    match terminal.level {
        0 => {}
        1 => drop(command.arg("--v")),
        _ => drop(command.arg("--vv")),
    }
    let pid = daemon::spawn(command, &prefix.error_log(), args.timeout)?;
    terminal.verbose(format!("process {pid}"));
    terminal.say("Silverback started");
    Ok(0)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::testing::{Fake, run};
    use super::*;

    #[test]
    fn start_runs_the_gateway_with_its_prefix_claimed_and_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("p");
        let fake = Fake::default();
        let answer = run(
            &fake,
            &["start", "-p", path.to_str().unwrap(), "--db-timeout", "1.5"],
            None,
        );
        assert_eq!(answer.code, 0, "{}", answer.err);
        assert_eq!(
            *fake.calls.borrow(),
            [format!("run {} 1500", path.display())]
        );
        assert!(Prefix::new(path.clone()).find().unwrap().is_none());
        assert!(!path.join("pids/silverback.pid").exists());
    }

    #[test]
    fn a_gateway_that_fails_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let fake = Fake {
            fail: true,
            ..Fake::default()
        };
        let answer = run(&fake, &["start", "-p", dir.path().to_str().unwrap()], None);
        assert_eq!(answer.code, 1);
        assert!(answer.err.contains("Error: no database"), "{}", answer.err);
    }

    #[test]
    fn a_second_gateway_in_the_same_prefix_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let prefix = Prefix::new(dir.path().to_owned());
        prefix.prepare().unwrap();
        let _claim = prefix.claim().unwrap();
        for arguments in [&["start", "-p"][..], &["start", "--daemon", "-p"]] {
            let fake = Fake::default();
            let arguments: Vec<_> = arguments
                .iter()
                .copied()
                .chain(dir.path().to_str())
                .collect();
            let answer = run(&fake, &arguments, None);
            assert_eq!(answer.code, 1);
            assert!(
                answer.err.contains("Silverback is already running in "),
                "{}",
                answer.err
            );
            assert!(fake.calls.borrow().is_empty());
        }
    }

    #[test]
    fn migrations_run_first_when_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let fake = Fake::default();
        run(
            &fake,
            &[
                "start",
                "--run-migrations",
                "-p",
                dir.path().to_str().unwrap(),
            ],
            None,
        );
        assert_eq!(fake.calls.borrow()[0], "Up force=false");
        assert!(fake.calls.borrow()[1].starts_with("run "));
    }

    #[test]
    fn restart_starts_what_does_not_run_with_the_file_it_had() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("s.conf");
        let path = dir.path().join("p");
        std::fs::write(&file, "pg_timeout = 777\n").unwrap();
        let fake = Fake::default();
        let path_text = path.to_str().unwrap();
        run(
            &fake,
            &["start", "-c", file.to_str().unwrap(), "-p", path_text],
            None,
        );
        let answer = run(&fake, &["restart", "-p", path_text], None);
        assert_eq!(answer.code, 0, "{}", answer.err);
        assert_eq!(
            fake.calls.borrow()[1],
            format!("run {} 777", path.display())
        );
    }
}
