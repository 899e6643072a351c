//! The syntax of the configuration file: kong.conf's, as the `pl.config` reader of Kong takes it.
//!
//! `name = value`, one to a line; `#` begins a comment, at the start of a line or after a value, and is
//! written `\#` where it is meant. Nothing here knows which names exist.

/// One `name = value` of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    /// Line number, from 1.
    pub(super) number: usize,
    pub(super) name: String,
    /// Trimmed, without the comment; empty when nothing stands after `=`.
    pub(super) value: String,
}

/// Reads a file. A line that is neither a comment nor `name = value` is an `Err` with its number.
pub(super) fn lines(text: &str) -> impl Iterator<Item = Result<Line, usize>> {
    text.lines().enumerate().filter_map(|(index, line)| {
        let number = index + 1;
        let line = line.trim();
        if line.is_empty() || line.starts_with(['#', ';']) {
            return None;
        }
        let assignment = line.split_once('=').and_then(|(name, value)| {
            let name = name.trim();
            let valid =
                !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
            valid.then(|| Line {
                number,
                name: name.to_owned(),
                value: without_comment(value),
            })
        });
        Some(assignment.ok_or(number))
    })
}

/// Cuts a comment off, and takes the backslash from `\#`.
fn without_comment(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    for c in value.chars() {
        if c == '#' {
            if !text.ends_with('\\') {
                break;
            }
            text.pop();
        }
        text.push(c);
    }
    text.trim().to_owned()
}

/// Writes a value so that reading gives it back.
pub(super) fn escape(value: &str) -> String {
    value.replace('#', "\\#")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn read(text: &str) -> Vec<(String, String)> {
        lines(text)
            .map(|line| line.unwrap())
            .map(|line| (line.name, line.value))
            .collect()
    }

    #[test]
    fn names_and_values_are_trimmed() {
        assert_eq!(
            read("  pg_host =  db.test \npg_port=5433\n\n# pg_user = x\n; old style\n"),
            [
                ("pg_host".to_owned(), "db.test".to_owned()),
                ("pg_port".to_owned(), "5433".to_owned())
            ]
        );
    }

    #[test]
    fn comments_end_a_value_unless_escaped() {
        assert_eq!(read("a = 1 # one")[0].1, "1");
        assert_eq!(read(r"pg_password = a\#b # c")[0].1, "a#b");
        assert_eq!(read("a = # nothing")[0].1, "");
    }

    #[test]
    fn values_keep_what_is_in_them() {
        assert_eq!(read("a = b = c, d ")[0].1, "b = c, d");
    }

    #[test]
    fn a_line_that_is_no_assignment_is_reported_with_its_number() {
        let results: Vec<_> = lines("a = 1\nnonsense\n[section]\n= 2\na b = 3").collect();
        assert_eq!(results[1..], [Err(2), Err(3), Err(4), Err(5)]);
    }

    #[test]
    fn windows_line_ends_are_no_part_of_a_value() {
        assert_eq!(read("a = 1\r\nb = 2\r\n")[0].1, "1");
    }

    #[test]
    fn escaping_and_reading_are_inverse() {
        let value = "a#b#c";
        assert_eq!(read(&format!("x = {}", escape(value)))[0].1, value);
    }
}
