//! Steps as they go by: a spinner on a terminal, a line each elsewhere.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// A step that is under way; without [`Step::done`] it ends as failed.
pub(crate) struct Step {
    bar: ProgressBar,
    what: String,
    start: Instant,
    is_done: bool,
}

/// Begins a step.
pub(crate) fn step(what: &str) -> Step {
    let bar = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} {elapsed}") {
        bar.set_style(style);
    }
    bar.set_message(what.to_owned());
    bar.enable_steady_tick(Duration::from_millis(100));
    Step {
        bar,
        what: what.to_owned(),
        start: Instant::now(),
        is_done: false,
    }
}

impl Step {
    /// Says how far it is, on a terminal.
    pub(crate) fn at(&self, detail: &str) {
        self.bar.set_message(format!("{}: {detail}", self.what));
    }

    /// Ends it well.
    pub(crate) fn done(mut self) {
        self.is_done = true;
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
        let sign = if self.is_done { "✓" } else { "✗" };
        eprintln!(
            "{sign} {} ({:.1} s)",
            self.what,
            self.start.elapsed().as_secs_f64()
        );
    }
}
