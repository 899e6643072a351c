//! The command line: `silverback start`, `stop`, `check` and so on.
//!
//! This part knows how to find and control a gateway by its prefix. What a gateway is, and what the
//! database needs, it asks of [`Commands`].

mod args;
mod control;
mod daemon;
mod declarative;
mod inspect;
mod migrations;
mod prefix;
mod start;
mod terminal;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser as _;
use clap::error::ErrorKind;

use crate::config::{Config, Loaded, Loader};

pub use args::{Action, TokenRole};
pub use daemon::{DaemonError, Ready};
pub use prefix::{PidFile, Prefix, PrefixError, Running};

use args::{AdminCommand, Cli, Command, ConfigCommand, Locate, TokenCommand};
use terminal::Terminal;

/// The gateway behind the command line.
pub trait Commands {
    /// Runs a gateway until a signal stops it: SIGTERM and SIGINT at once, SIGQUIT when its requests are
    /// answered (at most `graceful_stop_timeout`). SIGHUP means to load
    /// `Loader::from_process().running_at(&config.prefix)` and to bring into effect what can change.
    ///
    /// The directories `logs`, `pids` and `ssl` exist below the prefix, and this process has claimed it.
    /// `ready` is to be notified when the listeners are bound and there is a configuration to serve.
    ///
    /// # Errors
    /// When it cannot start, or did not stop as it should.
    fn run(&self, config: Config, ready: Ready) -> anyhow::Result<()>;

    /// Does something to the database schema and prints what it did, unless it is to be quiet; returns
    /// the exit code. Kong's `list` answers 3 for a database that needs bootstrapping and 5 when there
    /// are new migrations.
    ///
    /// # Errors
    /// When the database cannot be reached or refuses.
    fn migrations(&self, config: &Config, migrations: &Migrations) -> anyhow::Result<u8>;

    /// Does something with a declarative configuration and tells the user what it did.
    ///
    /// # Errors
    /// When the file or the database cannot be used, or the configuration is wrong.
    fn declarative(
        &self,
        config: &Config,
        what: &Declarative,
        say: &mut dyn FnMut(&str),
    ) -> anyhow::Result<()>;

    /// Writes an example of a declarative configuration.
    ///
    /// # Errors
    /// When there is such a file already.
    fn declarative_example(&self, file: &Path) -> anyhow::Result<()>;

    /// Makes, lists or revokes a token for the Admin API and prints what there is to know; returns the exit code.
    ///
    /// # Errors
    /// When the database cannot be reached or refuses.
    fn admin_token(&self, config: &Config, what: &AdminToken) -> anyhow::Result<u8>;

    /// The names of the plugins that are built in, for checking the setting `plugins`.
    fn plugins(&self) -> Vec<String>;

    /// Names and versions of what it is built from, for `version --all`.
    fn versions(&self) -> Vec<(String, String)>;
}

/// What is to be done with a declarative configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Declarative {
    /// Check the file.
    Parse(PathBuf),
    /// Import the file into the database.
    Import(PathBuf),
    /// Export the database into the file, which must not be there.
    Export(PathBuf),
}

/// What `silverback admin token` is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AdminToken {
    /// Make one of that name and print it.
    Create(String, TokenRole),
    /// Print the names of all.
    List,
    /// Make the one of that name worthless.
    Revoke(String),
}

/// What `silverback migrations` is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Migrations {
    /// What.
    pub action: Action,
    /// `bootstrap`: erase the database first. `up`: run even if everything was run.
    pub force: bool,
    /// Print nothing.
    pub quiet: bool,
    /// How long to wait for another node that is migrating.
    pub lock_timeout: Duration,
}

/// The `silverback` command: reads the arguments of this process and does what they say.
pub fn main(commands: &dyn Commands) -> ExitCode {
    let cli = match parse(std::env::args_os()) {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    terminal::with_process(cli.verbosity.level(), |terminal| {
        let code = dispatch(cli.command, terminal, &Loader::from_process(), commands);
        code.unwrap_or_else(|error| {
            terminal.failed(&error);
            1
        })
    })
    .into()
}

/// Kong's exit codes are 0 and 1; clap would say 2 for a wrong option.
fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Cli, ExitCode> {
    Cli::try_parse_from(arguments).map_err(|error| {
        // Where it is printed, and whether that works, changes nothing.
        let _ = error.print();
        match error.kind() {
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => ExitCode::SUCCESS,
            _ => ExitCode::FAILURE,
        }
    })
}

fn dispatch(
    command: Command,
    terminal: &mut Terminal<'_>,
    loader: &Loader,
    commands: &dyn Commands,
) -> anyhow::Result<u8> {
    let loader = loader.clone().plugins(commands.plugins());
    match command {
        Command::Start(args) => start::start(&args, terminal, &loader, commands),
        Command::Restart(args) => start::restart(&args, terminal, &loader, commands),
        Command::Stop(args) => control::stop(&args, terminal, &loader),
        Command::Quit(args) => control::quit(&args, terminal, &loader),
        Command::Reload(args) => control::reload(&args, terminal, &loader),
        Command::Health(args) => control::health(&args, terminal, &loader),
        Command::Check(args) => inspect::check(&args, terminal, &loader),
        Command::Version(args) => inspect::version(&args, terminal, commands),
        Command::Config(ConfigCommand::Show(args)) => inspect::show(&args, terminal, &loader),
        Command::Config(ConfigCommand::Default) => inspect::default(terminal),
        Command::Config(ConfigCommand::Init(args)) => declarative::init(&args, commands),
        Command::Config(ConfigCommand::Parse(args)) => {
            declarative::run(&args, Declarative::Parse, terminal, &loader, commands)
        }
        Command::Config(ConfigCommand::DbImport(args)) => {
            declarative::run(&args, Declarative::Import, terminal, &loader, commands)
        }
        Command::Config(ConfigCommand::DbExport(args)) => {
            declarative::export(&args, terminal, &loader, commands)
        }
        Command::Migrations(args) => migrations::migrations(&args, terminal, &loader, commands),
        Command::Admin(AdminCommand::Token(command)) => {
            let (locate, what) = match command {
                TokenCommand::Create(args) => {
                    (args.locate, AdminToken::Create(args.name, args.role))
                }
                TokenCommand::List(locate) => (locate, AdminToken::List),
                TokenCommand::Revoke(args) => (args.locate, AdminToken::Revoke(args.name)),
            };
            let config = load(&locate.apply(&loader), terminal)?;
            commands.admin_token(&config, &what)
        }
    }
}

impl Locate {
    /// `loader` with the options taken in.
    fn apply(&self, loader: &Loader) -> Loader {
        let loader = loader.clone().file(self.conf.as_deref());
        match &self.prefix {
            Some(prefix) => loader.set("prefix", &prefix.to_string_lossy()),
            None => loader,
        }
    }

    /// The prefix that is meant, whatever else is wrong with the configuration.
    fn prefix(&self, loader: &Loader) -> anyhow::Result<Prefix> {
        Ok(Prefix::new(self.apply(loader).prefix()?))
    }
}

/// Loads, and says what there is to say about it.
fn load(loader: &Loader, terminal: &mut Terminal<'_>) -> anyhow::Result<Config> {
    let Loaded { config, notices } = loader.load()?;
    match &config.origin().file {
        Some(file) => terminal.verbose(format!("read the configuration file {}", file.display())),
        None => {
            terminal.verbose("no configuration file, the defaults and the environment are used")
        }
    }
    for notice in notices {
        terminal.warn(notice);
    }
    terminal.verbose(format!("prefix in use: {}", config.prefix.display()));
    if terminal.level >= 2 {
        for line in config.effective().lines() {
            terminal.verbose(line);
        }
    }
    Ok(config)
}

/// `--db-timeout` is `pg_timeout`.
fn with_db_timeout(loader: Loader, timeout: Option<Duration>) -> Loader {
    match timeout {
        Some(timeout) => loader.set("pg_timeout", &(timeout.as_secs_f64() * 1000.0).to_string()),
        None => loader,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod testing {
    //! A gateway that only notes what was asked of it, and a way to run a command line against it.

    use std::cell::RefCell;

    use super::*;

    #[derive(Default)]
    pub(super) struct Fake {
        pub(super) calls: RefCell<Vec<String>>,
        pub(super) fail: bool,
    }

    impl Commands for Fake {
        fn run(&self, config: Config, _ready: Ready) -> anyhow::Result<()> {
            let found = Prefix::new(config.prefix.clone()).running()?.pid();
            assert_eq!(found, i32::try_from(std::process::id())?);
            self.calls.borrow_mut().push(format!(
                "run {} {}",
                config.prefix.display(),
                config.pg_timeout.as_millis()
            ));
            anyhow::ensure!(!self.fail, "no database");
            Ok(())
        }

        fn migrations(&self, _config: &Config, migrations: &Migrations) -> anyhow::Result<u8> {
            self.calls.borrow_mut().push(format!(
                "{:?} force={}",
                migrations.action, migrations.force
            ));
            Ok(if migrations.action == Action::List {
                5
            } else {
                0
            })
        }

        fn declarative(
            &self,
            _config: &Config,
            what: &Declarative,
            say: &mut dyn FnMut(&str),
        ) -> anyhow::Result<()> {
            self.calls.borrow_mut().push(format!("{what:?}"));
            say("done");
            Ok(())
        }

        fn declarative_example(&self, file: &Path) -> anyhow::Result<()> {
            self.calls.borrow_mut().push(format!("init {file:?}"));
            Ok(())
        }

        fn admin_token(&self, _config: &Config, what: &AdminToken) -> anyhow::Result<u8> {
            self.calls.borrow_mut().push(format!("{what:?}"));
            Ok(0)
        }

        fn plugins(&self) -> Vec<String> {
            vec!["key-auth".into()]
        }

        fn versions(&self) -> Vec<(String, String)> {
            vec![("Pingora".into(), "1.2.3".into())]
        }
    }

    pub(super) struct Answer {
        pub(super) code: u8,
        pub(super) out: String,
        pub(super) err: String,
    }

    /// Runs a command line, with the answers of a user, or without one.
    pub(super) fn run(fake: &Fake, arguments: &[&str], answers: Option<&str>) -> Answer {
        let cli = Cli::try_parse_from(["silverback"].iter().chain(arguments)).unwrap();
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut input = answers.unwrap_or_default().as_bytes();
        let mut terminal = Terminal {
            out: &mut out,
            err: &mut err,
            input: &mut input,
            interactive: answers.is_some(),
            level: cli.verbosity.level(),
        };
        let code =
            dispatch(cli.command, &mut terminal, &Loader::new(), fake).unwrap_or_else(|error| {
                terminal.failed(&error);
                1
            });
        Answer {
            code,
            out: String::from_utf8(out).unwrap(),
            err: String::from_utf8(err).unwrap(),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn wrong_options_end_with_kongs_exit_code() {
        let code = |arguments: &[&str]| {
            parse(arguments.iter().map(OsString::from))
                .map(|_| ())
                .unwrap_err()
        };
        // ExitCode has no equality.
        assert_eq!(
            format!("{:?}", code(&["silverback", "strat"])),
            format!("{:?}", ExitCode::from(1))
        );
        assert_eq!(
            format!("{:?}", code(&["silverback", "--help"])),
            format!("{:?}", ExitCode::SUCCESS)
        );
    }

    #[test]
    fn tokens_are_made_listed_and_revoked() {
        let fake = testing::Fake::default();
        for line in [
            &["admin", "token", "create", "ci", "--role", "read-only"][..],
            &["admin", "token", "create", "me"],
            &["admin", "token", "list"],
            &["admin", "token", "revoke", "ci"],
        ] {
            assert_eq!(testing::run(&fake, line, None).code, 0);
        }
        let calls = fake.calls.into_inner();
        assert_eq!(
            calls,
            [
                "Create(\"ci\", ReadOnly)",
                "Create(\"me\", ReadWrite)",
                "List",
                "Revoke(\"ci\")"
            ]
        );
        assert!(
            parse(["silverback", "admin", "token", "create", "a b"].map(OsString::from)).is_err()
        );
    }

    #[test]
    fn a_wrong_configuration_is_reported_as_a_whole() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("s.conf");
        std::fs::write(&file, "pg_port = x\nlog_level = loud\n").unwrap();
        let fake = testing::Fake::default();
        let answer = testing::run(&fake, &["start", "-c", file.to_str().unwrap()], None);
        assert_eq!(answer.code, 1);
        assert!(
            answer.err.contains("pg_port is not a number")
                && answer.err.contains("log_level has an invalid")
        );
        assert!(
            answer
                .err
                .contains("Run with --v (verbose) or --vv (debug) for more details"),
            "{}",
            answer.err
        );
        assert!(fake.calls.borrow().is_empty());
    }
}
