//! `migrations`: asks where there is something to lose, and hands on.

use super::args::MigrationsArgs;
use super::terminal::Terminal;
use super::{Action, Commands, Migrations, load, with_db_timeout};
use crate::config::Loader;

pub(super) fn migrations(
    args: &MigrationsArgs,
    terminal: &mut Terminal<'_>,
    loader: &Loader,
    commands: &dyn Commands,
) -> anyhow::Result<u8> {
    let loader = with_db_timeout(args.locate.apply(loader), args.db_timeout);
    let config = load(&loader, terminal)?;
    // Kong's `bootstrap --force` erases without asking; who typed it meant it.
    if args.action == Action::Reset && !args.yes {
        if !terminal.interactive {
            anyhow::bail!("not a tty: invoke 'reset' non-interactively with the --yes flag");
        }
        if !terminal.confirm("Are you sure? This operation is irreversible.")? {
            terminal.say("cancelled");
            return Ok(0);
        }
    }
    let migrations = Migrations {
        action: args.action,
        force: args.force,
        quiet: args.quiet,
        lock_timeout: args.lock_timeout,
    };
    commands.migrations(&config, &migrations)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::testing::{Fake, run};

    #[test]
    fn reset_asks_or_takes_yes() {
        let reset = |arguments: &[&str], answers| {
            let fake = Fake::default();
            let answer = run(
                &fake,
                &[&["migrations", "reset"], arguments].concat(),
                answers,
            );
            (
                answer.code,
                fake.calls.into_inner().len(),
                answer.out + &answer.err,
            )
        };
        let (code, calls, text) = reset(&[], None);
        assert_eq!((code, calls), (1, 0));
        assert!(
            text.contains("not a tty: invoke 'reset' non-interactively with the --yes flag"),
            "{text}"
        );
        let (code, calls, text) = reset(&[], Some("n\n"));
        assert_eq!((code, calls), (0, 0));
        assert!(text.ends_with("cancelled\n"), "{text}");
        assert_eq!(reset(&[], Some("y\n")).1, 1);
        assert_eq!(reset(&["--yes"], None).1, 1);
    }

    #[test]
    fn the_rest_is_handed_on_with_its_exit_code() {
        let fake = Fake::default();
        assert_eq!(
            run(&fake, &["migrations", "bootstrap", "--force"], None).code,
            0
        );
        assert_eq!(run(&fake, &["migrations", "list"], None).code, 5);
        assert_eq!(
            *fake.calls.borrow(),
            ["Bootstrap force=true", "List force=false"]
        );
    }
}
