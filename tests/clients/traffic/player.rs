//! Plays calls in their order. Ids that Kong gave are replaced with those that we gave.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use silverback_testkit::gateway::Gateway;

use super::compare::missed;
use super::data::{Client, Recorded};

/// Fields by which rows of lists are recognised whose ids are not known yet.
const NAMES: [&str; 7] = [
    "name", "username", "key", "target", "group", "prefix", "kid",
];

pub(super) struct Player<'a> {
    gateway: &'a Gateway,
    client: &'a Client,
    /// Kong's ids and ours.
    ids: BTreeMap<String, String>,
    /// Kong's ids of what could not be made here.
    unmade: BTreeSet<String>,
    /// Which exceptions were met.
    used: BTreeSet<usize>,
    differed: BTreeSet<usize>,
    report: Report,
}

/// What came out.
#[derive(Default)]
pub(super) struct Report {
    same: usize,
    different: usize,
    missing: usize,
    /// Calls about rows that could not be made.
    skipped: usize,
    /// What is wrong.
    pub(super) problems: Vec<String>,
    /// Exceptions that are none any more.
    pub(super) outdated: Vec<String>,
}

impl Report {
    pub(super) fn summary(&self) -> String {
        format!(
            "{} as Kong, {} otherwise on purpose, {} not there yet and {} that follow from them, {} problems",
            self.same,
            self.different,
            self.missing,
            self.skipped,
            self.problems.len()
        )
    }
}

impl<'a> Player<'a> {
    pub(super) fn new(gateway: &'a Gateway, client: &'a Client) -> Self {
        Player {
            gateway,
            client,
            ids: BTreeMap::new(),
            unmade: BTreeSet::new(),
            used: BTreeSet::new(),
            differed: BTreeSet::new(),
            report: Report::default(),
        }
    }

    pub(super) async fn play(&mut self, call: &Recorded) -> anyhow::Result<()> {
        let line = format!("{} {} {}", call.number, call.method, call.path);
        let Some(reads) = self.client.reads(call) else {
            self.report
                .problems
                .push(format!("{line}: reads.json does not say what is read"));
            return Ok(());
        };
        if self.is_about_unmade(call) {
            self.report.skipped += 1;
            return Ok(());
        }
        let missing = self
            .client
            .exceptions
            .missing
            .iter()
            .position(|m| m.is(call));
        let answer = self.send(call).await?;
        let ours: Value = serde_json::from_slice(&answer.body).unwrap_or_default();

        if let Some(n) = missing {
            self.used.insert(n);
            self.report.missing += 1;
            if answer.status == call.status {
                let why = &self.client.exceptions.missing[n].why;
                self.report
                    .outdated
                    .push(format!("{line}: {} ({why})", answer.status));
            } else if let Some(id) = call.answer.as_ref().and_then(|a| a["id"].as_str()) {
                self.unmade.insert(id.to_owned());
            }
            return Ok(());
        }
        let different = self
            .client
            .exceptions
            .different
            .iter()
            .position(|d| d.kong == call.status && call.is(&d.call));
        if let Some(n) = different {
            self.differed.insert(n);
            self.report.different += 1;
            if !self.client.exceptions.different[n]
                .status
                .contains(&answer.status)
            {
                let text = answer.text();
                self.report
                    .problems
                    .push(format!("{line}: {}: {text}", answer.status));
            }
            return Ok(());
        }
        if answer.status != call.status {
            self.report.problems.push(format!(
                "{line}: {} instead of {}: {:.500}",
                answer.status,
                call.status,
                answer.text()
            ));
            return Ok(());
        }
        let mut found = Vec::new();
        for (name, value) in &call.answer_headers {
            if answer.header(name) != Some(value) {
                found.push(format!(
                    "{name}: {:?} instead of {value:?}",
                    answer.header(name)
                ));
            }
        }
        if let Some(kongs) = &call.answer {
            self.learn(kongs, &ours);
            let (kongs, ours) = self.aligned(kongs, ours);
            found.extend(missed(reads, &kongs, &ours));
        }
        if found.is_empty() {
            self.report.same += 1;
        }
        self.report
            .problems
            .extend(found.into_iter().map(|what| format!("{line}: {what}")));
        Ok(())
    }

    pub(super) fn report(mut self) -> Report {
        let all = &self.client.exceptions;
        for (n, missing) in all.missing.iter().enumerate() {
            if !self.used.contains(&n) {
                self.report
                    .outdated
                    .push(format!("{missing:?} matches no call"));
            }
        }
        for (n, different) in all.different.iter().enumerate() {
            if !self.differed.contains(&n) {
                self.report
                    .outdated
                    .push(format!("{different:?} matches no call"));
            }
        }
        self.report
    }

    async fn send(&self, recorded: &Recorded) -> anyhow::Result<silverback_testkit::h1::Response> {
        let path = self.translated(&recorded.path);
        let mut call = self.gateway.admin().call(&recorded.method, &path);
        for (name, value) in &recorded.headers {
            call = call.header(name, value);
        }
        match &recorded.body {
            Some(body) => call = call.body(self.translated(&body.to_string())),
            // With a JSON content type and nothing in it, as clients do.
            None if recorded.method == "GET" => call = call.header("Content-Length", "0"),
            None => {}
        }
        call.send().await
    }

    fn is_about_unmade(&self, call: &Recorded) -> bool {
        let body = call.body.as_ref().map(Value::to_string).unwrap_or_default();
        self.unmade
            .iter()
            .any(|id| call.path.contains(id) || body.contains(id))
    }

    fn translated(&self, text: &str) -> String {
        self.ids
            .iter()
            .fold(text.to_owned(), |text, (kongs, ours)| {
                text.replace(kongs, ours)
            })
    }

    /// Takes down which of our ids stand for which of Kong's.
    fn learn(&mut self, kongs: &Value, ours: &Value) {
        if let (Some(kongs), Some(ours)) = (kongs["id"].as_str(), ours["id"].as_str()) {
            self.ids.insert(kongs.to_owned(), ours.to_owned());
        }
        let (Some(kongs), Some(ours)) = (kongs["data"].as_array(), ours["data"].as_array()) else {
            return;
        };
        for row in kongs {
            let Some(id) = row["id"].as_str().filter(|id| !self.ids.contains_key(*id)) else {
                continue;
            };
            let name = NAMES.iter().find(|n| row[**n].is_string());
            let twin = name.and_then(|n| ours.iter().find(|our| our[*n] == row[*n]));
            if let Some(ours) = twin.and_then(|t| t["id"].as_str()) {
                self.ids.insert(id.to_owned(), ours.to_owned());
            }
        }
    }

    /// Kong's answer with our ids and without what could not be made here, and ours with the rows of a list in the same order.
    fn aligned(&self, kongs: &Value, mut ours: Value) -> (Value, Value) {
        let mut kongs: Value =
            serde_json::from_str(&self.translated(&kongs.to_string())).unwrap_or_default();
        if let Some(rows) = kongs.get_mut("data").and_then(Value::as_array_mut) {
            rows.retain(|row| {
                row["id"]
                    .as_str()
                    .is_none_or(|id| !self.unmade.contains(id))
            });
            let place = |row: &Value| {
                let same = |other: &Value| other["id"].is_string() && other["id"] == row["id"];
                rows.iter().position(same).unwrap_or(usize::MAX)
            };
            if let Some(ours) = ours.get_mut("data").and_then(Value::as_array_mut) {
                ours.sort_by_key(place);
            }
        }
        (kongs, ours)
    }
}
