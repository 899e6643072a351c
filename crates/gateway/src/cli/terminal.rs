//! What the commands say, and to whom.

use std::io::{self, BufRead, IsTerminal as _, Write};

/// The user of a command.
pub(super) struct Terminal<'a> {
    pub(super) out: &'a mut dyn Write,
    pub(super) err: &'a mut dyn Write,
    pub(super) input: &'a mut dyn BufRead,
    /// Whether somebody can answer questions.
    pub(super) interactive: bool,
    /// 0, 1 (verbose) or 2 (debug).
    pub(super) level: u8,
}

// That nobody reads what is said is no reason to leave something undone: failed writes are ignored.
impl Terminal<'_> {
    /// Says a line on standard output.
    pub(super) fn say(&mut self, text: impl AsRef<str>) {
        let _ = writeln!(self.out, "{}", text.as_ref());
    }

    /// Prints text as it is.
    pub(super) fn print(&mut self, text: &str) {
        let _ = self.out.write_all(text.as_bytes());
    }

    /// Says a warning on standard error.
    pub(super) fn warn(&mut self, text: impl AsRef<str>) {
        let _ = writeln!(self.err, "[warn] {}", text.as_ref());
    }

    /// Says an error on standard error.
    pub(super) fn error(&mut self, text: impl AsRef<str>) {
        let _ = writeln!(self.err, "[error] {}", text.as_ref());
    }

    /// Says a line on standard error to who wants to know more.
    pub(super) fn verbose(&mut self, text: impl AsRef<str>) {
        if self.level >= 1 {
            let _ = writeln!(self.err, "[verbose] {}", text.as_ref());
        }
    }

    /// Reports why a command failed.
    pub(super) fn failed(&mut self, error: &anyhow::Error) {
        if self.level == 0 {
            let _ = writeln!(self.err, "Error: {error:#}");
            let _ = writeln!(
                self.err,
                "\n  Run with --v (verbose) or --vv (debug) for more details"
            );
        } else {
            let _ = writeln!(self.err, "Error: {error:?}");
        }
    }

    /// Asks a question that is answered with yes or no; three unclear answers mean no.
    pub(super) fn confirm(&mut self, question: &str) -> io::Result<bool> {
        for _ in 0..3 {
            let _ = write!(self.out, "> {question} [y/n] ");
            let _ = self.out.flush();
            let mut answer = String::new();
            if self.input.read_line(&mut answer)? == 0 {
                return Ok(false);
            }
            match answer.trim().to_ascii_lowercase().as_str() {
                "y" | "yes" => return Ok(true),
                "n" | "no" => return Ok(false),
                _ => {}
            }
        }
        Ok(false)
    }
}

/// Runs `command` with the terminal of this process.
pub(super) fn with_process<T>(level: u8, command: impl FnOnce(&mut Terminal<'_>) -> T) -> T {
    let (mut out, mut err) = (io::stdout(), io::stderr());
    let stdin = io::stdin();
    let interactive = stdin.is_terminal();
    // Not locked here: a gateway in the foreground keeps running inside `command`.
    let mut input = io::BufReader::new(stdin);
    command(&mut Terminal {
        out: &mut out,
        err: &mut err,
        input: &mut input,
        interactive,
        level,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn confirm(answers: &str) -> bool {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut input = answers.as_bytes();
        let mut terminal = Terminal {
            out: &mut out,
            err: &mut err,
            input: &mut input,
            interactive: true,
            level: 0,
        };
        terminal.confirm("Sure?").unwrap()
    }

    #[test]
    fn only_a_clear_yes_is_a_yes() {
        assert!(confirm("y\n") && confirm("YES\n") && confirm("what\nyes\n"));
        assert!(!confirm("n\n") && !confirm("") && !confirm("a\nb\nc\ny\n"));
    }
}
