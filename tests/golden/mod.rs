//! Recorded answers of a Kong 3.9.1, played against a node and graded.
//!
//! `admin/*.jsonl` and `proxy/*.jsonl` hold one exchange a line, in the order in which they were recorded; those without
//! `expect` are played because later ones depend on them. A grade is *pass* when status, body and the headers that matter are
//! the same, *near* when only the status is, *fail* when not even that. What may differ is said in [`compare`].

mod compare;
mod replay_admin;
mod replay_proxy;

use std::fmt::Write as _;

use serde_json::Value;

/// How many exchanges got which grade, and what was wrong with the others.
#[derive(Default)]
struct Score {
    pass: usize,
    near: usize,
    fail: usize,
    told: String,
}

impl Score {
    /// Grades one exchange by what differs; `failed` when the status does.
    fn add(&mut self, what: &str, failed: bool, why: &[String]) {
        let grade = match (failed, why.is_empty()) {
            (true, _) => {
                self.fail += 1;
                "fail"
            }
            (false, true) => {
                self.pass += 1;
                return;
            }
            (false, false) => {
                self.near += 1;
                "near"
            }
        };
        let why = why.iter().take(6).fold(String::new(), |mut text, line| {
            let _ = write!(text, "\n      {line}");
            text
        });
        let _ = writeln!(self.told, "[{grade}] {what}{why}");
    }

    /// Fails the test unless so many percent passed and none (but `fails`) failed.
    #[track_caller]
    fn demand(&self, percent: f64, fails: usize) {
        let judged = self.pass + self.near + self.fail;
        let reached = 100.0 * self.pass as f64 / judged as f64;
        let line = format!(
            "pass {} near {} fail {} = {reached:.1} %",
            self.pass, self.near, self.fail
        );
        println!("{line}\n{}", self.told);
        assert!(
            judged > 0 && reached >= percent && self.fail <= fails,
            "{line}, but {percent} % and at most {fails} fails are wanted\n{}",
            self.told
        );
    }
}

/// The lines of a golden file, with `replace` done to its text first.
fn lines(file: &str, replace: impl Fn(String) -> String) -> anyhow::Result<Vec<Value>> {
    let path = format!("{}/golden/{file}", env!("CARGO_MANIFEST_DIR"));
    let text = replace(std::fs::read_to_string(path)?);
    text.lines()
        .map(|line| Ok(serde_json::from_str(line)?))
        .collect()
}
