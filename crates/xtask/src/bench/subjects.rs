//! What is measured: processes that listen, each with what it is asked.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use silverback_testkit::client::Client;
use silverback_testkit::ports;
use silverback_testkit::postgres::Cluster;
use silverback_testkit::process::{self, Process, Program, Signal};

use super::fill::Content;
use crate::gateway::{Database, Node, Ports};

const START: Duration = Duration::from_secs(30);

/// The body of every answer of the upstream.
const BODY: &str = "A body of some length, since an answer without one would make the head look more expensive than it is.";

/// A process under load.
#[derive(Debug)]
pub(super) struct Subject {
    pub(super) name: String,
    pub(super) addr: SocketAddr,
    /// What it is asked for.
    pub(super) content: Content,
    /// What is measured; the direct case has the upstream's.
    pub(super) pid: u32,
    /// Ends when dropped.
    process: Option<Process>,
    /// Where a gateway answers, and what it is.
    pub(super) node: Option<Node>,
}

impl Subject {
    /// The upstream itself, asked without a proxy.
    pub(super) fn direct(upstream: &Upstream) -> Self {
        Self {
            name: "direct".into(),
            addr: upstream.addr,
            content: Content::ONE_ROUTE,
            pid: upstream.process.id(),
            process: None,
            node: None,
        }
    }

    /// The yardstick.
    pub(super) fn bare(
        binary: &Path,
        upstream: &Upstream,
        threads: usize,
        folder: &Path,
    ) -> Result<Self> {
        let addr = free_addr()?;
        let mut process = Program::new(binary)
            .args([
                addr.to_string(),
                upstream.addr.to_string(),
                threads.to_string(),
            ])
            .log(folder.join("bare.log"))
            .spawn()?;
        process.wait_until(START, || answers(addr))?;
        Ok(Self::proxy("bare", addr, process))
    }

    /// nginx as a proxy.
    pub(super) fn nginx(upstream: &Upstream, threads: usize, folder: &Path) -> Result<Self> {
        let addr = free_addr()?;
        let server = format!(
            "upstream up {{ server {}; keepalive 256; keepalive_requests 1000000000; }}
             server {{
                 listen {addr} reuseport backlog=1024;
                 keepalive_requests 1000000000;
                 location / {{
                     proxy_pass http://up;
                     proxy_http_version 1.1;
                     proxy_set_header Connection \"\";
                 }}
             }}",
            upstream.addr
        );
        let process = nginx(folder, "nginx", threads, &server, addr)?;
        Ok(Self::proxy("nginx", addr, process))
    }

    /// A gateway on a running node.
    pub(super) fn gateway(name: &str, node: Node, process: Process, content: Content) -> Self {
        let addr = node.ports.proxy_addr();
        Self {
            content,
            node: Some(node),
            ..Self::proxy(name, addr, process)
        }
    }

    /// Its process, to stop or keep; the subject can no longer be measured.
    pub(super) fn into_node(mut self) -> Option<(Node, Process)> {
        self.node.take().zip(self.process.take())
    }

    fn proxy(name: &str, addr: SocketAddr, process: Process) -> Self {
        Self {
            name: name.into(),
            addr,
            content: Content::ONE_ROUTE,
            pid: process.id(),
            process: Some(process),
            node: None,
        }
    }
}

/// The upstream of all: an nginx that answers from memory.
#[derive(Debug)]
pub(super) struct Upstream {
    pub(super) addr: SocketAddr,
    process: Process,
}

impl Upstream {
    pub(super) fn start(folder: &Path) -> Result<Self> {
        let addr = free_addr()?;
        let server = format!(
            "server {{
                 listen {addr} backlog=1024;
                 keepalive_requests 1000000000;
                 keepalive_timeout 1h;
                 default_type text/plain;
                 location / {{ return 200 '{BODY}'; }}
             }}"
        );
        let process = nginx(folder, "upstream", 1, &server, addr)?;
        Ok(Self { addr, process })
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.addr)
    }
}

/// Where gateways of the benchmarks come from.
#[derive(Debug)]
pub(super) struct Gateways<'a> {
    pub(super) binary: PathBuf,
    pub(super) folder: &'a Path,
    pub(super) cluster: &'a Cluster,
    pub(super) threads: usize,
}

impl Gateways<'_> {
    /// A node on a database that exists, with a prefix of its own.
    pub(super) fn node(&self, name: &str, database: &str) -> Result<Node> {
        let node = Node {
            binary: self.binary.clone(),
            prefix: self.folder.join(name),
            ports: Ports::free()?,
            host: "127.0.0.1".into(),
            database: Database::parse(&self.cluster.url(database))?,
            workers: Some(self.threads),
            extra: vec![
                ("proxy_access_log", "off".into()),
                ("admin_access_log", "off".into()),
            ],
        };
        node.write_conf()?;
        Ok(node)
    }

    /// A running node on a new database.
    pub(super) fn start_empty(&self, name: &str) -> Result<(Node, Process)> {
        let database = database_name(name);
        self.cluster.ensure_database(&database)?;
        let node = self.node(name, &database)?;
        node.migrate()?;
        let process = node.start()?;
        Ok((node, process))
    }

    /// A running node on a copy of another's database; nobody may be connected to the original.
    pub(super) fn copy_database(&self, name: &str, original: &str) -> Result<String> {
        let (name, original) = (database_name(name), database_name(original));
        self.cluster.sql(
            "postgres",
            &format!("CREATE DATABASE \"{name}\" TEMPLATE \"{original}\""),
        )?;
        Ok(name)
    }
}

/// The database of a subject.
pub(super) fn database_name(subject: &str) -> String {
    subject.replace(|c: char| !c.is_ascii_alphanumeric(), "_")
}

fn nginx(
    folder: &Path,
    name: &str,
    workers: usize,
    server: &str,
    addr: SocketAddr,
) -> Result<Process> {
    let folder = folder.join(name);
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let at = folder.display();
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .iter()
        .map(|kind| format!("{kind}_temp_path {at}/{kind};\n"))
        .collect();
    let conf = format!(
        "daemon off;\nworker_processes {workers};\npid {at}/pid;\nerror_log {at}/error.log warn;\n\
         events {{ worker_connections 4096; }}\nhttp {{\naccess_log off;\n{temporary}{server}\n}}\n"
    );
    fs::write(folder.join("nginx.conf"), conf).context("cannot write nginx's configuration")?;
    let mut process = Program::new(process::find_program("nginx").context("no nginx")?)
        .arg("-p")
        .arg(&folder)
        .arg("-c")
        .arg(folder.join("nginx.conf"))
        .arg("-e")
        .arg(folder.join("error.log"))
        .log(folder.join("output.log"))
        // Killed outright it would leave its workers behind.
        .death_signal(Signal::SIGTERM)
        .spawn()?;
    process.wait_until(START, || answers(addr))?;
    Ok(process)
}

fn answers(addr: SocketAddr) -> bool {
    Client::new(addr).get("/").is_ok()
}

fn free_addr() -> Result<SocketAddr> {
    Ok((Ipv4Addr::LOCALHOST, ports::free_port()?).into())
}
