//! Lua 5.1 patterns: definitions carry Kong's patterns as they are, so that schemas show them unchanged.
//!
//! Complete but for position captures: classes, sets, `*` `+` `-` `?`, anchors, captures with back-references, `%b`, `%f`. Bytes,
//! not characters, as in Lua. Backtracking is unbounded: only patterns of definitions belong here, never a client's.

/// Whether the pattern matches anywhere in the text.
pub fn is_match(pattern: &str, text: &str) -> bool {
    let (anchored, pattern) = match pattern.as_bytes() {
        [b'^', rest @ ..] => (true, rest),
        all => (false, all),
    };
    let text = text.as_bytes();
    (0..=text.len())
        .take(if anchored { 1 } else { usize::MAX })
        .any(|start| {
            let mut m = Matcher {
                pattern,
                text,
                captures: Vec::new(),
            };
            m.here(start, 0)
        })
}

struct Matcher<'a> {
    pattern: &'a [u8],
    text: &'a [u8],
    /// Begin, and end once it is closed.
    captures: Vec<(usize, Option<usize>)>,
}

impl Matcher<'_> {
    /// Whether the pattern from `p` matches the text from `s`.
    fn here(&mut self, mut s: usize, mut p: usize) -> bool {
        loop {
            match self.pattern[p..] {
                [] => return true,
                [b'$'] => return s == self.text.len(),
                [b'(', ..] => {
                    self.captures.push((s, None));
                    let fine = self.here(s, p + 1);
                    if !fine {
                        self.captures.pop();
                    }
                    return fine;
                }
                [b')', ..] => {
                    let Some(open) = self.captures.iter().rposition(|c| c.1.is_none()) else {
                        return false;
                    };
                    self.captures[open].1 = Some(s);
                    let fine = self.here(s, p + 1);
                    if !fine {
                        self.captures[open].1 = None;
                    }
                    return fine;
                }
                [b'%', b'b', open, close, ..] => match self.balanced(s, open, close) {
                    Some(end) => (s, p) = (end, p + 4),
                    None => return false,
                },
                [b'%', b'f', b'[', ..] => {
                    let end = self.item_end(p + 2);
                    let before = if s == 0 { 0 } else { self.text[s - 1] };
                    let after = self.text.get(s).copied().unwrap_or(0);
                    if self.in_set(p + 2, end, before) || !self.in_set(p + 2, end, after) {
                        return false;
                    }
                    p = end;
                }
                [b'%', d @ b'1'..=b'9', ..] => {
                    let captured = self
                        .captures
                        .get(usize::from(d - b'1'))
                        .and_then(|c| c.1.map(|end| c.0..end));
                    let Some(range) = captured else { return false };
                    let length = range.len();
                    if self.text[range] != *self.text.get(s..s + length).unwrap_or_default() {
                        return false;
                    }
                    (s, p) = (s + length, p + 2);
                }
                _ => {
                    let end = self.item_end(p);
                    match self.pattern.get(end) {
                        Some(b'?') => {
                            if self.one(s, p, end) && self.here(s + 1, end + 1) {
                                return true;
                            }
                            p = end + 1;
                        }
                        Some(b'*') => return self.longest(s, p, end, 0),
                        Some(b'+') => return self.longest(s, p, end, 1),
                        Some(b'-') => {
                            while !self.here(s, end + 1) {
                                if !self.one(s, p, end) {
                                    return false;
                                }
                                s += 1;
                            }
                            return true;
                        }
                        _ if self.one(s, p, end) => (s, p) = (s + 1, end),
                        _ => return false,
                    }
                }
            }
        }
    }

    fn longest(&mut self, s: usize, p: usize, end: usize, least: usize) -> bool {
        let mut count = 0;
        while self.one(s + count, p, end) {
            count += 1;
        }
        while count >= least {
            if self.here(s + count, end + 1) {
                return true;
            }
            if count == 0 {
                break;
            }
            count -= 1;
        }
        false
    }

    /// The end of the single-character item that begins at `p`.
    fn item_end(&self, p: usize) -> usize {
        let last = self.pattern.len();
        match self.pattern.get(p) {
            Some(b'%') => (p + 2).min(last),
            Some(b'[') => {
                let mut at = p + 1 + usize::from(self.pattern.get(p + 1) == Some(&b'^'));
                // A `]` in first place stands for itself.
                loop {
                    at += match self.pattern.get(at) {
                        None => return last,
                        Some(b'%') => 2,
                        Some(_) => 1,
                    };
                    match self.pattern.get(at) {
                        None => return last,
                        Some(b']') => return at + 1,
                        Some(_) => {}
                    }
                }
            }
            _ => p + 1,
        }
    }

    fn one(&self, s: usize, p: usize, end: usize) -> bool {
        let Some(&byte) = self.text.get(s) else {
            return false;
        };
        match self.pattern[p] {
            b'.' => true,
            b'%' => self
                .pattern
                .get(p + 1)
                .is_some_and(|class| in_class(byte, *class)),
            b'[' => self.in_set(p, end, byte),
            literal => literal == byte,
        }
    }

    fn in_set(&self, p: usize, end: usize, byte: u8) -> bool {
        let inner = self
            .pattern
            .get(p + 1..end.saturating_sub(1))
            .unwrap_or_default();
        let (negated, inner) = match inner {
            [b'^', rest @ ..] => (true, rest),
            all => (false, all),
        };
        let mut at = 0;
        let mut found = false;
        while at < inner.len() && !found {
            match inner[at..] {
                [b'%', class, ..] => {
                    found = in_class(byte, class);
                    at += 2;
                }
                [low, b'-', high, ..] => {
                    found = (low..=high).contains(&byte);
                    at += 3;
                }
                [literal, ..] => {
                    found = literal == byte;
                    at += 1;
                }
                [] => break,
            }
        }
        found != negated
    }

    fn balanced(&self, s: usize, open: u8, close: u8) -> Option<usize> {
        if self.text.get(s) != Some(&open) {
            return None;
        }
        let mut depth = 1;
        for (i, byte) in self.text.iter().enumerate().skip(s + 1) {
            if *byte == close {
                depth -= 1;
                if depth == 0 {
                    return Some(i + 1);
                }
            } else if *byte == open {
                depth += 1;
            }
        }
        None
    }
}

fn in_class(byte: u8, class: u8) -> bool {
    let fine = match class.to_ascii_lowercase() {
        b'a' => byte.is_ascii_alphabetic(),
        b'c' => byte.is_ascii_control(),
        b'd' => byte.is_ascii_digit(),
        b'l' => byte.is_ascii_lowercase(),
        b'p' => byte.is_ascii_punctuation(),
        b's' => byte.is_ascii_whitespace() || byte == 0x0b,
        b'u' => byte.is_ascii_uppercase(),
        b'w' => byte.is_ascii_alphanumeric(),
        b'x' => byte.is_ascii_hexdigit(),
        b'z' => byte == 0,
        _ => return class == byte,
    };
    fine != class.is_ascii_uppercase()
}

#[cfg(test)]
mod tests {
    use super::is_match;

    #[test]
    fn kongs_own_patterns_match_as_in_lua() {
        for (pattern, yes, no) in [
            ("^%u+$", vec!["GET", "X"], vec!["get", "G1", ""]),
            ("//", vec!["/a//b"], vec!["/a/b"]),
            ("^/", vec!["/a"], vec!["a/"]),
            ("^~/", vec!["~/a"], vec!["/~/"]),
            (
                "^[^*]*%*?[^*]*$",
                vec!["a.*", "*.a", "a", "a*b"],
                vec!["*.a.*"],
            ),
            ("^%*%.", vec!["*.a"], vec!["a.*"]),
            ("%.%*$", vec!["a.*"], vec!["*.a"]),
            ("^[^*]*$", vec!["a", ""], vec!["a*"]),
            (
                "^[Hh][Oo][Ss][Tt]$",
                vec!["host", "HoSt"],
                vec!["hosts", "xhost"],
            ),
            ("^[^:]+:.*$", vec!["x-a:1", "a:"], vec!["x", ":1"]),
            ("^%d+[%.%d]*%-?.*$", vec!["3.9.1", "3.9-x"], vec!["x"]),
            ("^[%w%.%-%_~]+$", vec!["a-b_c.d~"], vec!["a b", ""]),
        ] {
            for text in yes {
                assert!(is_match(pattern, text), "{pattern} should match {text}");
            }
            for text in no {
                assert!(
                    !is_match(pattern, text),
                    "{pattern} should not match {text}"
                );
            }
        }
    }

    #[test]
    fn repetition_is_greedy_or_lazy_and_backtracks() {
        assert!(is_match("^a*ab$", "aaab"));
        assert!(is_match("^a-b$", "aaab"));
        assert!(is_match("^a+$", "a"));
        assert!(!is_match("^a+$", ""));
        assert!(is_match("^a?a$", "a"));
    }

    #[test]
    fn captures_balance_and_frontier_work() {
        assert!(is_match("^(%w+)=%1$", "a=a"));
        assert!(!is_match("^(%w+)=%1$", "a=b"));
        assert!(is_match("^%b()$", "(a(b)c)"));
        assert!(!is_match("^%b()$", "(a(b)c"));
        assert!(is_match("%f[%a]the%f[%A]", "in the box"));
        assert!(!is_match("%f[%a]the%f[%A]", "other"));
    }

    #[test]
    fn sets_take_ranges_classes_and_a_leading_bracket() {
        assert!(is_match("^[a-c%d]+$", "a1c"));
        assert!(!is_match("^[a-c%d]+$", "d"));
        assert!(is_match("^[]]$", "]"));
        assert!(is_match("^[^%s]+$", "ab"));
        assert!(!is_match("^[^%s]+$", "a b"));
    }

    #[test]
    fn broken_patterns_do_not_panic() {
        for pattern in [
            "[", "[^", "[a", "%", "(", ")", "%f[", "%b", "%b(", "[%", "%1", "a[", "*", "-",
        ] {
            let _ = is_match(pattern, "abc");
        }
    }
}
