//! The gateway as a process of its own: for what happens at the command line, on signals and when it is killed.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail};

use super::{Endpoint, PREFIX, TEMPLATE, database_settings, migrate};
use crate::ports;
use crate::postgres::{Database, Server};
use crate::process::{self, Process, Program};

/// How long a process may take to start.
const START: Duration = Duration::from_secs(30);

/// A gateway program, a configuration file for it, and a folder: what is needed to start it, or to speak to it by its prefix.
#[derive(Debug)]
pub struct Executable {
    program: PathBuf,
    prefix: PathBuf,
    proxy: SocketAddr,
    admin: SocketAddr,
    status: SocketAddr,
}

impl Executable {
    /// On a migrated database of the test run's server, with ports that are free now. `settings` come on top.
    ///
    /// # Errors
    /// When the database or the folder cannot be made.
    pub async fn prepare(
        program: &Path,
        settings: &[(&str, &str)],
    ) -> anyhow::Result<(Self, Database)> {
        let server = Server::shared()?;
        let database = server
            .database_like(TEMPLATE, |url| async move { migrate(&url).await })
            .await?;
        Ok((Self::on(program, database.url(), settings)?, database))
    }

    /// On the database with this connection string.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub fn on(program: &Path, url: &str, settings: &[(&str, &str)]) -> anyhow::Result<Self> {
        process::sweep_stale(PREFIX);
        let prefix = process::temporary(PREFIX);
        std::fs::create_dir_all(&prefix)?;
        let port = || Ok::<_, anyhow::Error>((Ipv4Addr::LOCALHOST, ports::free_port()?).into());
        let executable = Self {
            program: program.to_owned(),
            prefix,
            proxy: port()?,
            admin: port()?,
            status: port()?,
        };
        let mut lines = vec![
            ("prefix".to_owned(), executable.prefix.display().to_string()),
            ("proxy_listen".to_owned(), executable.proxy.to_string()),
            ("admin_listen".to_owned(), executable.admin.to_string()),
            ("status_listen".to_owned(), executable.status.to_string()),
            ("nginx_worker_processes".to_owned(), "1".to_owned()),
        ];
        lines.extend(database_settings(url)?);
        for (name, value) in settings {
            lines.retain(|(n, _)| n != name);
            lines.push(((*name).to_owned(), (*value).to_owned()));
        }
        let text: String = lines.iter().map(|(n, v)| format!("{n} = {v}\n")).collect();
        std::fs::write(executable.config_file(), text)?;
        Ok(executable)
    }

    /// `silverback.conf`, for tests that change it.
    pub fn config_file(&self) -> PathBuf {
        self.prefix.join("silverback.conf")
    }

    /// Its working directory.
    pub fn prefix(&self) -> &Path {
        &self.prefix
    }

    /// The proxy.
    pub fn proxy(&self) -> Endpoint {
        Endpoint::plain(self.proxy)
    }

    /// The Admin API.
    pub fn admin(&self) -> Endpoint {
        Endpoint::plain(self.admin)
    }

    /// The status API.
    pub fn status(&self) -> Endpoint {
        Endpoint::plain(self.status)
    }

    /// Runs a command of the program to its end: `["health", "-p", ..]`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub async fn cli(&self, args: &[&str]) -> anyhow::Result<Output> {
        cli(&self.program, args, &[]).await
    }

    /// The process that `start --daemon` left, from its pid file.
    pub fn daemon(&self) -> Option<u32> {
        let text = std::fs::read_to_string(self.prefix.join("pids/silverback.pid")).ok()?;
        let pid: u32 = text.trim().parse().ok()?;
        // Process ids are given again: it must be ours.
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let prefix = self.prefix.to_string_lossy();
        String::from_utf8_lossy(&line)
            .contains(&*prefix)
            .then_some(pid)
    }

    /// Kills what [`Executable::daemon`] finds.
    pub fn kill_daemon(&self) {
        if let Some(pid) = self.daemon() {
            let pid = nix::unistd::Pid::from_raw(pid.cast_signed());
            let _gone = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
        }
    }

    /// Starts it in the foreground and waits until it is ready.
    ///
    /// # Errors
    /// When it ends instead, with what it wrote.
    pub async fn start(&self) -> anyhow::Result<Running> {
        let program = Program::new(&self.program)
            .arg("start")
            .arg("-c")
            .arg(self.config_file())
            .log(self.prefix.join("output"));
        let status = self.status;
        tokio::task::spawn_blocking(move || {
            let mut process = program.spawn()?;
            process.wait_until(START, || {
                let mut client = crate::client::Client::new(status);
                client.get("/status/ready").is_ok_and(|r| r.status == 200)
            })?;
            Ok(Running(process))
        })
        .await?
    }
}

impl Drop for Executable {
    fn drop(&mut self) {
        self.kill_daemon();
        let _swept_later = std::fs::remove_dir_all(&self.prefix);
    }
}

/// Runs a command of a gateway program to its end, with only these environment variables beside `PATH`.
///
/// # Errors
/// When it cannot be started or does not end.
pub async fn cli(program: &Path, args: &[&str], envs: &[(&str, &str)]) -> anyhow::Result<Output> {
    let mut command = Command::new(program);
    command.args(args).env_clear().stdin(Stdio::null());
    if let Some(path) = std::env::var_os("PATH") {
        command.env("PATH", path);
    }
    command.envs(envs.iter().copied());
    let run = tokio::task::spawn_blocking(move || command.output());
    match tokio::time::timeout(Duration::from_secs(60), run).await {
        Err(_) => bail!("{args:?} does not end"),
        Ok(output) => output?.with_context(|| format!("{} cannot be started", program.display())),
    }
}

/// A gateway process; killed when dropped.
#[derive(Debug)]
pub struct Running(Process);

impl Running {
    /// The process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.0
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill();
    }
}
