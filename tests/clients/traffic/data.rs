//! What lies in `konga-compat/<client>/`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use serde::Deserialize;
use serde_json::Value;

/// A client's traffic, what it reads in it, and what is known to be otherwise.
pub(super) struct Client {
    pub(super) calls: Vec<Recorded>,
    reads: Vec<Reads>,
    pub(super) exceptions: Exceptions,
}

/// A line of `calls.jsonl`: a call and Kong's answer, of which only what the client reads was kept.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Recorded {
    /// From 1, the line.
    #[serde(skip)]
    pub(super) number: usize,
    pub(super) method: String,
    pub(super) path: String,
    pub(super) headers: BTreeMap<String, String>,
    #[serde(default)]
    pub(super) body: Option<Value>,
    pub(super) status: u16,
    /// Headers of the answer that the client, or the browser it runs in, looks at.
    #[serde(default)]
    pub(super) answer_headers: BTreeMap<String, String>,
    #[serde(default)]
    pub(super) answer: Option<Value>,
}

/// An entry of `reads.json`: what a client reads in the answers to calls of a kind. Paths are dotted, `[]` means every element, `.` the
/// answer itself.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Reads {
    /// A method and a path, in which `*` is any segment and `/**` is any path.
    pub(super) call: String,
    /// On which of its pages, for people.
    #[serde(rename = "where")]
    _at: String,
    /// Fields that must have the type they have in Kong's answer, and be missing where they are missing there.
    #[serde(default)]
    pub(super) fields: Vec<String>,
    /// Values of which all parts must be there with the same types.
    #[serde(default)]
    pub(super) whole: Vec<String>,
    /// Fields that must have the same value; objects may say more.
    #[serde(default)]
    pub(super) equal: Vec<String>,
}

/// `exceptions.json`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Exceptions {
    /// What is not there yet. It must not work: what works has to leave the list.
    pub(super) missing: Vec<Missing>,
    /// What is answered otherwise on purpose.
    pub(super) different: Vec<Different>,
}

/// Calls that cannot be answered yet.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Missing {
    /// All that is about this plugin: its schema, and making it.
    #[serde(default)]
    pub(super) plugin: Option<String>,
    /// Or calls like these.
    #[serde(default)]
    pub(super) calls: Vec<String>,
    pub(super) why: String,
}

/// Calls that get another status than Kong's.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Different {
    pub(super) call: String,
    /// Kong's status.
    pub(super) kong: u16,
    /// Ours; several where it depends on what came before.
    pub(super) status: Vec<u16>,
    #[serde(rename = "why")]
    _why: String,
}

impl Client {
    pub(super) fn load(name: &str) -> anyhow::Result<Self> {
        let folder = folder().join(name);
        let text = read(&folder.join("calls.jsonl"))?;
        let mut calls = Vec::new();
        for (n, line) in text.lines().enumerate() {
            let mut call: Recorded = serde_json::from_str(line)
                .with_context(|| format!("{name}/calls.jsonl, line {}", n + 1))?;
            call.number = n + 1;
            calls.push(call);
        }
        if calls.is_empty() {
            bail!("{name}/calls.jsonl is empty");
        }
        Ok(Client {
            calls,
            reads: serde_json::from_str(&read(&folder.join("reads.json"))?)?,
            exceptions: serde_json::from_str(&read(&folder.join("exceptions.json"))?)?,
        })
    }

    /// What is read in the answer to this call.
    pub(super) fn reads(&self, call: &Recorded) -> Option<&Reads> {
        self.reads.iter().find(|r| call.is(&r.call))
    }
}

impl Recorded {
    /// Whether a pattern `METHOD /path/*` is of this call.
    pub(super) fn is(&self, pattern: &str) -> bool {
        let (method, path) = pattern.split_once(' ').unwrap_or(("", pattern));
        if method != self.method {
            return false;
        }
        if path == "/**" {
            return true;
        }
        let own = self.path.split('?').next().unwrap_or_default();
        let own: Vec<&str> = own.trim_matches('/').split('/').collect();
        let asked: Vec<&str> = path.trim_matches('/').split('/').collect();
        own.len() == asked.len() && asked.iter().zip(own).all(|(a, b)| *a == "*" || *a == b)
    }
}

impl Missing {
    pub(super) fn is(&self, call: &Recorded) -> bool {
        if self.calls.iter().any(|pattern| call.is(pattern)) {
            return true;
        }
        let Some(plugin) = &self.plugin else {
            return false;
        };
        let of = |pattern: &str| call.is(&pattern.replace('#', plugin));
        let named = || {
            call.body
                .as_ref()
                .is_some_and(|b| b["name"] == plugin.as_str())
        };
        let path = call.path.split('?').next().unwrap_or_default();
        of("GET /plugins/schema/#")
            || of("GET /schemas/plugins/#")
            || (path.split('/').any(|s| s == "plugins") && named())
    }
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../konga-compat")
}

fn read(path: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(path).with_context(|| path.display().to_string())
}
