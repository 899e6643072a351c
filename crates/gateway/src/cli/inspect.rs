//! `check`, `version` and `config`: commands that only look.

use super::args::{Check, Show, Version};
use super::terminal::Terminal;
use super::{Commands, load};
use crate::config::{ConfigError, Loader, default_conf};

pub(super) fn check(
    args: &Check,
    terminal: &mut Terminal<'_>,
    loader: &Loader,
) -> anyhow::Result<u8> {
    let file = args.conf.as_ref().unwrap_or(&args.file);
    match loader.clone().file(Some(file)).load() {
        Ok(loaded) => {
            for notice in loaded.notices {
                terminal.warn(notice);
            }
            terminal.say(format!("configuration at {} is valid", file.display()));
            Ok(0)
        }
        Err(ConfigError::Invalid(problems)) => {
            for problem in problems {
                terminal.error(problem.to_string());
            }
            Ok(1)
        }
        Err(error) => {
            terminal.error(error.to_string());
            Ok(1)
        }
    }
}

pub(super) fn version(
    args: &Version,
    terminal: &mut Terminal<'_>,
    commands: &dyn Commands,
) -> anyhow::Result<u8> {
    let own = env!("CARGO_PKG_VERSION");
    if !args.all {
        terminal.say(own);
        return Ok(0);
    }
    terminal.say(format!("Silverback: {own}"));
    for (name, version) in commands.versions() {
        terminal.say(format!("{name}: {version}"));
    }
    Ok(0)
}

pub(super) fn show(
    args: &Show,
    terminal: &mut Terminal<'_>,
    loader: &Loader,
) -> anyhow::Result<u8> {
    let config = load(&args.locate.apply(loader), terminal)?;
    if args.json {
        let mut object = config.to_json(&[]);
        if let Some(object) = object.as_object_mut() {
            // Known only to a gateway that runs.
            object.remove("loaded_plugins");
        }
        terminal.say(serde_json::to_string_pretty(&object)?);
    } else {
        terminal.print(&config.effective());
    }
    Ok(0)
}

pub(super) fn default(terminal: &mut Terminal<'_>) -> anyhow::Result<u8> {
    terminal.print(&default_conf());
    Ok(0)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::testing::{Fake, run};
    use crate::config::default_conf;

    #[test]
    fn check_speaks_as_kong_does() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("s.conf");
        let path = file.to_str().unwrap();
        std::fs::write(&file, "pg_port = 5433\npg_hots = x\n").unwrap();
        let answer = run(&Fake::default(), &["check", path], None);
        assert_eq!(
            (answer.code, answer.out),
            (0, format!("configuration at {path} is valid\n"))
        );
        assert!(
            answer.err.starts_with("[warn] unknown setting 'pg_hots'"),
            "{}",
            answer.err
        );

        std::fs::write(&file, "pg_port = x\nplugins = ghost\n").unwrap();
        let answer = run(&Fake::default(), &["check", path], None);
        assert_eq!((answer.code, answer.out.as_str()), (1, ""));
        assert_eq!(
            answer
                .err
                .lines()
                .filter(|line| line.starts_with("[error] "))
                .count(),
            2,
            "{}",
            answer.err
        );
        assert!(
            answer
                .err
                .contains("ghost plugin is enabled but not installed"),
            "{}",
            answer.err
        );

        let answer = run(&Fake::default(), &["check", "/no/such/file"], None);
        assert_eq!(
            (answer.code, answer.err.as_str()),
            (1, "[error] no file at: /no/such/file\n")
        );
    }

    #[test]
    fn version_alone_is_a_number_and_with_all_names_the_rest() {
        let own = env!("CARGO_PKG_VERSION");
        assert_eq!(
            run(&Fake::default(), &["version"], None).out,
            format!("{own}\n")
        );
        let all = run(&Fake::default(), &["version", "-a"], None).out;
        assert_eq!(all, format!("Silverback: {own}\nPingora: 1.2.3\n"));
    }

    #[test]
    fn config_shows_what_is_in_effect_without_secrets() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("s.conf");
        std::fs::write(&file, "pg_password = hunter2\npg_host = db\n").unwrap();
        let arguments = ["config", "show", "-c", file.to_str().unwrap()];
        let text = run(&Fake::default(), &arguments, None).out;
        assert!(
            text.contains(&format!("pg_host = db  # {}:2\n", file.display())),
            "{text}"
        );
        assert!(!text.contains("hunter2"));
        let json = run(
            &Fake::default(),
            &[&arguments[..], &["--json"]].concat(),
            None,
        )
        .out;
        let object: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(
            (&object["pg_host"], &object["pg_password"]),
            (&"db".into(), &"******".into())
        );
    }

    #[test]
    fn config_default_prints_the_default_file() {
        assert_eq!(
            run(&Fake::default(), &["config", "default"], None).out,
            default_conf()
        );
    }
}
