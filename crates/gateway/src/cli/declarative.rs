//! `config init`, `parse`, `db_import` and `db_export`, in the words of `kong config` (`kong/cmd/config.lua`).

use std::path::{Path, PathBuf};

use super::args::{DeclarativeFile, Declared};
use super::terminal::Terminal;
use super::{Commands, Declarative, load};
use crate::config::Loader;

const DEFAULT_FILE: &str = "./silverback.yml";

pub(super) fn init(args: &DeclarativeFile, commands: &dyn Commands) -> anyhow::Result<u8> {
    commands.declarative_example(&absolute(args.file.as_deref())?)?;
    Ok(0)
}

/// A command that needs a file.
pub(super) fn run(
    args: &Declared,
    what: fn(PathBuf) -> Declarative,
    terminal: &mut Terminal<'_>,
    loader: &Loader,
    commands: &dyn Commands,
) -> anyhow::Result<u8> {
    if args.file.is_none() {
        anyhow::bail!("expected a declarative configuration file; see `silverback config --help`");
    }
    carry_out(args, what, terminal, loader, commands)
}

pub(super) fn export(
    args: &Declared,
    terminal: &mut Terminal<'_>,
    loader: &Loader,
    commands: &dyn Commands,
) -> anyhow::Result<u8> {
    carry_out(args, Declarative::Export, terminal, loader, commands)
}

fn carry_out(
    args: &Declared,
    what: fn(PathBuf) -> Declarative,
    terminal: &mut Terminal<'_>,
    loader: &Loader,
    commands: &dyn Commands,
) -> anyhow::Result<u8> {
    let config = load(&args.locate.apply(loader), terminal)?;
    let what = what(absolute(args.file.as_deref())?);
    commands.declarative(&config, &what, &mut |text| terminal.say(text))?;
    Ok(0)
}

fn absolute(file: Option<&Path>) -> std::io::Result<PathBuf> {
    std::path::absolute(file.unwrap_or(Path::new(DEFAULT_FILE)))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::testing::{Fake, run};

    #[test]
    fn commands_have_kongs_names_and_files() {
        for (arguments, call) in [
            (&["config", "parse", "/a.yml"][..], "Parse(\"/a.yml\")"),
            (&["config", "db_import", "/a.yml"], "Import(\"/a.yml\")"),
            (&["config", "db-import", "/a.json"], "Import(\"/a.json\")"),
            (&["config", "db_export", "/b.yml"], "Export(\"/b.yml\")"),
            (&["config", "init", "/b.yml"], "init \"/b.yml\""),
            (
                &["config", "init", "-c", "/a.conf", "-p", "/p", "/b.yml"],
                "init \"/b.yml\"",
            ),
        ] {
            let fake = Fake::default();
            let answer = run(&fake, arguments, None);
            assert_eq!(answer.code, 0, "{}", answer.err);
            assert_eq!(*fake.calls.borrow(), [call]);
        }
        let fake = Fake::default();
        run(&fake, &["config", "db_export"], None);
        assert!(fake.calls.borrow()[0].ends_with("/silverback.yml\")"));
    }

    #[test]
    fn parse_and_import_need_a_file() {
        for command in ["parse", "db_import"] {
            let answer = run(&Fake::default(), &["config", command], None);
            assert_eq!(answer.code, 1);
            assert!(
                answer
                    .err
                    .contains("Error: expected a declarative configuration file"),
                "{}",
                answer.err
            );
        }
    }
}
