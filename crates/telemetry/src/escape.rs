//! Making text from outside safe inside a log line, so that nobody can forge a line or break out of a
//! quoted field.

/// Appends `bytes` as nginx' default `escape=default` does: `"`, `\`, control characters and everything
/// above 126 become `\xHH` with upper-case digits (nginx documentation, `log_format`).
pub(crate) fn push_nginx(out: &mut String, mut bytes: &[u8]) {
    loop {
        // Hardly anything needs escaping, so whole runs are copied.
        let unsafe_at = bytes
            .iter()
            .position(|byte| matches!(byte, b'"' | b'\\' | 0..=31 | 127..=255));
        let (clean, rest) = bytes.split_at(unsafe_at.unwrap_or(bytes.len()));
        for chunk in clean.utf8_chunks() {
            out.push_str(chunk.valid());
        }
        let Some((&byte, rest)) = rest.split_first() else {
            return;
        };
        push_hex(out, "\\x", byte);
        bytes = rest;
    }
}

/// Appends `bytes` as a quoted JSON string (RFC 8259, section 7). Bytes that are no UTF-8 become U+FFFD.
pub(crate) fn push_json(out: &mut String, bytes: &[u8]) {
    out.push('"');
    for chunk in bytes.utf8_chunks() {
        push_json_text(out, chunk.valid());
        if !chunk.invalid().is_empty() {
            out.push(char::REPLACEMENT_CHARACTER);
        }
    }
    out.push('"');
}

fn push_json_text(out: &mut String, text: &str) {
    let mut clean_from = 0;
    for (at, byte) in text.bytes().enumerate() {
        let short = match byte {
            b'"' => "\\\"",
            b'\\' => "\\\\",
            b'\n' => "\\n",
            b'\r' => "\\r",
            b'\t' => "\\t",
            0..=31 | 127 => "",
            _ => continue,
        };
        // Every byte matched is ASCII, so `at` and `at + 1` are character boundaries.
        out.push_str(&text[clean_from..at]);
        if short.is_empty() {
            push_hex(out, "\\u00", byte);
        } else {
            out.push_str(short);
        }
        clean_from = at + 1;
    }
    out.push_str(&text[clean_from..]);
}

/// Appends `text` with control characters (of ASCII and of C1) written as `\xHH`; everything else stays
/// readable. For error messages, which may quote what a client sent.
pub(crate) fn push_without_controls(out: &mut String, text: &str) {
    for character in text.chars() {
        match u8::try_from(u32::from(character)) {
            Ok(byte) if character.is_control() => push_hex(out, "\\x", byte),
            _ => out.push(character),
        }
    }
}

/// Appends a Prometheus label value: `\`, `"` and line feed are escaped (Prometheus documentation, text
/// format 0.0.4).
pub(crate) fn push_label(out: &mut String, value: &str) {
    for character in value.chars() {
        match character {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            other => out.push(other),
        }
    }
}

fn push_hex(out: &mut String, prefix: &str, byte: u8) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    out.push_str(prefix);
    out.push(char::from(DIGITS[usize::from(byte >> 4)]));
    out.push(char::from(DIGITS[usize::from(byte & 15)]));
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn through(push: impl Fn(&mut String, &[u8]), bytes: &[u8]) -> String {
        let mut out = String::new();
        push(&mut out, bytes);
        out
    }

    #[test]
    fn nginx_escape_leaves_no_quote_backslash_control_or_high_byte() {
        assert_eq!(
            through(push_nginx, b"a\"b\\c\n\r\x00\x7f\xff~ "),
            "a\\x22b\\x5Cc\\x0A\\x0D\\x00\\x7F\\xFF~ "
        );
        let every: Vec<u8> = (0..=255).collect();
        let text = through(push_nginx, &every);
        assert!(text.bytes().all(|byte| (32..127).contains(&byte)));
        assert!(!text.contains('"'));
    }

    #[test]
    fn json_escape_is_read_back_by_a_json_parser() {
        let original = "quote \" back \\ nl \n tab \t nul \0 del \u{7f} ü 🦍";
        let text = through(push_json, original.as_bytes());
        assert_eq!(serde_json::from_str::<String>(&text).unwrap(), original);
    }

    #[test]
    fn json_escape_replaces_what_is_no_utf8() {
        let text = through(push_json, b"a\xff\xfeb\xc3");
        assert_eq!(
            serde_json::from_str::<String>(&text).unwrap(),
            "a\u{fffd}\u{fffd}b\u{fffd}"
        );
    }

    #[test]
    fn error_text_keeps_letters_and_loses_controls() {
        let mut out = String::new();
        push_without_controls(&mut out, "Größe\n\u{1b}[31m\u{85}");
        assert_eq!(out, "Größe\\x0A\\x1B[31m\\x85");
    }
}
