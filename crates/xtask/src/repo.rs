//! Where things are, and cargo run from within cargo.

use std::env;
use std::path::PathBuf;
use std::process::{Command, ExitStatus};

use anyhow::{Context, Result, bail};
use cargo_metadata::{Metadata, MetadataCommand};

/// The root of the repository.
pub(crate) fn root() -> PathBuf {
    // `cargo run` names the manifest of the clone it runs in; a binary run by hand knows only the clone it was built in.
    let manifest =
        env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    let mut root = PathBuf::from(manifest);
    root.pop();
    root.pop();
    root
}

/// The crates of the workspace and what their manifests say; needs no network.
pub(crate) fn metadata() -> Result<Metadata> {
    MetadataCommand::new()
        .current_dir(root())
        .no_deps()
        .exec()
        .context("cargo metadata failed")
}

/// Where cargo puts what it builds.
pub(crate) fn target_dir() -> Result<PathBuf> {
    Ok(metadata()?.target_directory.into_std_path_buf())
}

/// Cargo in the root of the repository, as if called from a shell.
pub(crate) fn cargo(args: &[&str]) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(args).current_dir(root());
    // What `cargo run` tells about xtask would look to build scripts like a change of their surroundings.
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_")
            || text.starts_with("CARGO_MANIFEST_")
            || text.starts_with("CARGO_BIN_")
        {
            command.env_remove(&name);
        }
    }
    command
}

/// Runs a command and fails when it fails.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status: ExitStatus = command
        .status()
        .with_context(|| format!("cannot start {command:?}"))?;
    if !status.success() {
        bail!("{} ({status})", describe(command));
    }
    Ok(())
}

/// Builds binaries and returns the folder they are in.
pub(crate) fn build(packages: &[&str], release: bool) -> Result<PathBuf> {
    let mut command = cargo(&["build"]);
    for package in packages {
        command.args(["-p", package]);
    }
    if release {
        command.arg("--release");
    }
    run(&mut command)?;
    Ok(target_dir()?.join(if release { "release" } else { "debug" }))
}

fn describe(command: &Command) -> String {
    let program = PathBuf::from(command.get_program());
    let name = program
        .file_name()
        .unwrap_or(program.as_os_str())
        .to_string_lossy()
        .into_owned();
    let args: Vec<_> = command
        .get_args()
        .map(|a| a.to_string_lossy().into_owned())
        .collect();
    format!("{name} {} failed", args.join(" "))
}
