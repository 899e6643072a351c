//! The commands and their options. Names and defaults are those of the `kong` command
//! (`kong/cmd/*.lua`), where it has them.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};

/// An API gateway that speaks Kong's Admin API and proxies with Pingora.
#[derive(Debug, Parser)]
#[command(
    name = "silverback",
    version,
    arg_required_else_help = true,
    disable_help_subcommand = true
)]
pub(super) struct Cli {
    #[command(flatten)]
    pub(super) verbosity: Verbosity,
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Default, Args)]
pub(super) struct Verbosity {
    /// Say more; twice, or --vv, still more.
    #[arg(short = 'v', long = "v", visible_alias = "verbose", action = ArgAction::Count, global = true)]
    v: u8,
    /// Say still more.
    #[arg(long = "vv", global = true)]
    vv: bool,
}

impl Verbosity {
    /// 0, 1 (verbose) or 2 (debug).
    pub(super) fn level(&self) -> u8 {
        if self.vv { 2 } else { self.v.min(2) }
    }
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Start a gateway and stay in the foreground, or with --daemon in the background.
    ///
    /// The gateway works in its prefix directory, where logs, the pid file and generated certificates
    /// lie; the other commands find it by that directory.
    Start(Start),

    /// Stop the gateway that runs in a prefix, at once (SIGTERM).
    Stop(Stop),

    /// Stop the gateway that runs in a prefix when its requests are answered (SIGQUIT).
    ///
    /// No new connections are taken; when the timeout is over before all requests are answered, the
    /// gateway is stopped as by `silverback stop`.
    Quit(Quit),

    /// Let the gateway that runs in a prefix read its configuration again (SIGHUP).
    ///
    /// The configuration is checked first; if it is not valid, the gateway is left as it is. Settings
    /// that cannot change while it runs take a restart; `docs/configuration.md` says which.
    Reload(Locate),

    /// Stop the gateway that runs in a prefix, if one does, and start it again.
    Restart(Restart),

    /// Check a configuration file.
    Check(Check),

    /// Tell whether a gateway runs in a prefix.
    Health(Locate),

    /// Print the version.
    Version(Version),

    /// Manage the database schema.
    Migrations(MigrationsArgs),

    /// Manage who may use the Admin API.
    #[command(subcommand)]
    Admin(AdminCommand),

    /// Use declarative configuration files, or show the settings of the node.
    #[command(subcommand)]
    Config(ConfigCommand),
}

/// Where configuration and prefix come from.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct Locate {
    /// Configuration file [default: /etc/silverback/silverback.conf or /etc/silverback.conf, if there].
    #[arg(short, long, value_name = "FILE")]
    pub(super) conf: Option<PathBuf>,

    /// Prefix directory; wins over the one in the configuration.
    #[arg(short, long, value_name = "PREFIX")]
    pub(super) prefix: Option<PathBuf>,
}

#[derive(Debug, Clone, Default, Args)]
pub(super) struct Start {
    #[command(flatten)]
    pub(super) locate: Locate,

    /// Run in the background; return once the gateway is ready, or with its error.
    #[arg(long)]
    pub(super) daemon: bool,

    /// With --daemon: seconds to wait until the gateway is ready.
    #[arg(short, long, value_name = "SECONDS", value_parser = seconds, default_value = "60")]
    pub(super) timeout: Duration,

    /// Run new migrations before starting.
    #[arg(long)]
    pub(super) run_migrations: bool,

    /// Timeout, in seconds, for all database operations.
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub(super) db_timeout: Option<Duration>,

    /// Set by --daemon for the process that it starts.
    #[arg(long, hide = true)]
    pub(super) detached: bool,
}

#[derive(Debug, Args)]
pub(super) struct Stop {
    #[command(flatten)]
    pub(super) locate: Locate,

    /// Seconds to wait until it has stopped.
    #[arg(short, long, value_name = "SECONDS", value_parser = seconds, default_value = "10")]
    pub(super) timeout: Duration,
}

#[derive(Debug, Args)]
pub(super) struct Quit {
    #[command(flatten)]
    pub(super) locate: Locate,

    /// Seconds before it is stopped by force [default: graceful_stop_timeout of its configuration, and
    /// one more].
    #[arg(short, long, value_name = "SECONDS", value_parser = seconds)]
    pub(super) timeout: Option<Duration>,

    /// Seconds to wait before stopping begins.
    #[arg(short, long, value_name = "SECONDS", value_parser = seconds, default_value = "0")]
    pub(super) wait: Duration,
}

#[derive(Debug, Args)]
pub(super) struct Restart {
    #[command(flatten)]
    pub(super) start: Start,
}

#[derive(Debug, Args)]
pub(super) struct Check {
    /// Configuration file.
    #[arg(value_name = "FILE", default_value = "/etc/silverback/silverback.conf")]
    pub(super) file: PathBuf,

    /// The same, as an option.
    #[arg(short, long, value_name = "FILE", conflicts_with = "file")]
    pub(super) conf: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct Version {
    /// Also print the versions of what it is built from.
    #[arg(short, long)]
    pub(super) all: bool,
}

#[derive(Debug, Args)]
pub(super) struct MigrationsArgs {
    /// What to do.
    #[arg(value_enum, value_name = "COMMAND")]
    pub(super) action: Action,

    #[command(flatten)]
    pub(super) locate: Locate,

    /// Do not ask before `reset`.
    #[arg(short, long)]
    pub(super) yes: bool,

    /// Print nothing.
    #[arg(short, long)]
    pub(super) quiet: bool,

    /// `bootstrap`: erase the database first. `up`: run even if everything was run.
    #[arg(short, long)]
    pub(super) force: bool,

    /// Timeout, in seconds, for all database operations.
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub(super) db_timeout: Option<Duration>,

    /// Seconds to wait for another node that is migrating.
    #[arg(long, value_name = "SECONDS", value_parser = seconds, default_value = "60")]
    pub(super) lock_timeout: Duration,
}

/// What to do with the database schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Action {
    /// Prepare an empty database and run all migrations.
    Bootstrap,
    /// Run new migrations.
    Up,
    /// List the migrations that were run and those that are new.
    List,
    /// Print the state as JSON.
    Status,
    /// Erase everything that the gateway keeps in the database.
    Reset,
}

#[derive(Debug, Subcommand)]
pub(super) enum AdminCommand {
    /// Manage tokens for the Admin API.
    #[command(subcommand)]
    Token(TokenCommand),
}

#[derive(Debug, Subcommand)]
pub(super) enum TokenCommand {
    /// Make a token and print it. It is not kept anywhere and cannot be printed again.
    Create(CreateToken),
    /// List the tokens, without what is secret.
    List(Locate),
    /// Make a token worthless, on all nodes at once.
    Revoke(RevokeToken),
}

#[derive(Debug, Args)]
pub(super) struct CreateToken {
    /// What to call it; the history of changes says it.
    #[arg(value_name = "NAME", value_parser = token_name)]
    pub(super) name: String,

    /// What it allows.
    #[arg(long, value_enum, default_value = "read-write")]
    pub(super) role: TokenRole,

    #[command(flatten)]
    pub(super) locate: Locate,
}

#[derive(Debug, Args)]
pub(super) struct RevokeToken {
    /// Its name.
    #[arg(value_name = "NAME")]
    pub(super) name: String,

    #[command(flatten)]
    pub(super) locate: Locate,
}

/// What a token allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum TokenRole {
    /// To look.
    ReadOnly,
    /// To look and to change.
    ReadWrite,
}

fn token_name(text: &str) -> Result<String, String> {
    let fine = |c: char| c.is_alphanumeric() || "_-.@".contains(c);
    if !text.is_empty() && text.len() <= 128 && text.chars().all(fine) {
        Ok(text.to_owned())
    } else {
        Err("a name is up to 128 letters, digits, '_', '-', '.' and '@'".to_owned())
    }
}

#[derive(Debug, Subcommand)]
pub(super) enum ConfigCommand {
    /// Print the configuration that is in effect: file, environment and defaults; secrets hidden.
    Show(Show),
    /// Print a configuration file with every setting at its default.
    Default,
    /// Write an example of a declarative configuration.
    Init(DeclarativeFile),
    /// Check a declarative configuration without loading it.
    Parse(Declared),
    /// Import a declarative configuration into the database.
    #[command(name = "db_import", alias = "db-import")]
    DbImport(Declared),
    /// Export the database as a declarative configuration.
    #[command(name = "db_export", alias = "db-export")]
    DbExport(Declared),
}

#[derive(Debug, Args)]
pub(super) struct DeclarativeFile {
    /// The file [default: ./silverback.yml].
    #[arg(value_name = "FILE")]
    pub(super) file: Option<PathBuf>,

    // Taken as by the other commands, and of no effect: the example is the same for all.
    #[command(flatten)]
    pub(super) _locate: Locate,
}

#[derive(Debug, Args)]
pub(super) struct Declared {
    /// The file, in YAML (.yml, .yaml) or JSON (.json); an export is YAML [default of db_export: ./silverback.yml].
    #[arg(value_name = "FILE")]
    pub(super) file: Option<PathBuf>,

    #[command(flatten)]
    pub(super) locate: Locate,
}

#[derive(Debug, Args)]
pub(super) struct Show {
    #[command(flatten)]
    pub(super) locate: Locate,

    /// Print JSON, as `GET /` of the Admin API has it.
    #[arg(long)]
    pub(super) json: bool,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let number: f64 = text
        .parse()
        .map_err(|_| "not a number of seconds".to_owned())?;
    Duration::try_from_secs_f64(number).map_err(|error| error.to_string())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    fn parse(line: &str) -> Cli {
        Cli::try_parse_from(line.split(' ')).unwrap()
    }

    #[test]
    fn the_definition_holds_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn verbosity_is_kongs_and_may_stand_anywhere() {
        assert_eq!(parse("silverback version").verbosity.level(), 0);
        for (line, level) in [
            ("--v", 1),
            ("-v", 1),
            ("-vv", 2),
            ("--vv", 2),
            ("-vvv", 2),
            ("--verbose", 1),
        ] {
            assert_eq!(
                parse(&format!("silverback {line} version"))
                    .verbosity
                    .level(),
                level
            );
            assert_eq!(
                parse(&format!("silverback version {line}"))
                    .verbosity
                    .level(),
                level
            );
        }
    }

    #[test]
    fn start_takes_kongs_options() {
        let Command::Start(start) =
            parse("silverback start -c a.conf -p /p --run-migrations --db-timeout 2.5").command
        else {
            panic!("not start")
        };
        assert_eq!(start.locate.conf, Some("a.conf".into()));
        assert_eq!(start.locate.prefix, Some("/p".into()));
        assert!(start.run_migrations && !start.daemon && !start.detached);
        assert_eq!(start.db_timeout, Some(Duration::from_millis(2500)));
    }

    #[test]
    fn migrations_take_their_options_on_either_side() {
        for line in [
            "silverback migrations reset --yes",
            "silverback migrations -y reset",
        ] {
            let Command::Migrations(args) = parse(line).command else {
                panic!("not migrations")
            };
            assert_eq!((args.action, args.yes), (Action::Reset, true));
        }
        assert!(Cli::try_parse_from(["silverback", "migrations", "finish"]).is_err());
    }

    #[test]
    fn times_are_seconds_and_not_negative() {
        assert!(Cli::try_parse_from(["silverback", "quit", "-t", "-1"]).is_err());
        assert!(Cli::try_parse_from(["silverback", "quit", "-t", "soon"]).is_err());
    }

    #[test]
    fn check_takes_its_file_either_way() {
        let file = |line: &str| match parse(line).command {
            Command::Check(check) => check.conf.unwrap_or(check.file),
            _ => panic!("not check"),
        };
        assert_eq!(file("silverback check a.conf"), PathBuf::from("a.conf"));
        assert_eq!(file("silverback check -c a.conf"), PathBuf::from("a.conf"));
        assert_eq!(
            file("silverback check"),
            PathBuf::from("/etc/silverback/silverback.conf")
        );
    }
}
