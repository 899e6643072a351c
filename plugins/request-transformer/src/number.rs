//! Numbers as Lua reads and writes them.

/// The number a text stands for, as Lua's `tonumber` takes it.
pub(crate) fn parse(text: &[u8]) -> Option<f64> {
    let text = std::str::from_utf8(text).ok()?.trim_ascii();
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let hex = digits
        .strip_prefix("0x")
        .or_else(|| digits.strip_prefix("0X"));
    let number = match hex {
        Some(hex) if !hex.is_empty() && hex.bytes().all(|b| b.is_ascii_hexdigit()) => {
            hex.chars().fold(0.0, |n, c| {
                n * 16.0 + f64::from(c.to_digit(16).unwrap_or_default())
            })
        }
        Some(_) => return None,
        // Rust also reads words such as `inf`.
        None if digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') => {
            digits.parse::<f64>().ok()?
        }
        None => return None,
    };
    Some(if negative { -number } else { number })
}

/// The number with up to 14 significant digits, as `%.14g` in C writes it.
pub(crate) fn text(n: f64) -> String {
    const DIGITS: usize = 14;
    if n.is_nan() {
        return "nan".to_owned();
    }
    if n.is_infinite() {
        return if n > 0.0 { "inf" } else { "-inf" }.to_owned();
    }
    let scientific = format!("{n:.*e}", DIGITS - 1);
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or_default();
    let short = |digits: &str| match digits.contains('.') {
        true => digits
            .trim_end_matches('0')
            .trim_end_matches('.')
            .to_owned(),
        false => digits.to_owned(),
    };
    if exponent < -4 || exponent >= DIGITS as i32 {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{}e{sign}{:02}", short(mantissa), exponent.abs());
    }
    // Between -4 and 13: it cannot be negative.
    let decimals = usize::try_from(DIGITS as i32 - 1 - exponent).unwrap_or_default();
    short(&format!("{n:.decimals$}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_lua_writes_them() {
        for (n, written) in [
            (0.0, "0"),
            (-3.0, "-3"),
            (100.0, "100"),
            (0.1 + 0.2, "0.3"),
            (1.0 / 3.0, "0.33333333333333"),
            (1e14, "1e+14"),
            (12345678901234.0, "12345678901234"),
            (99999999999999.9, "1e+14"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (1.5e300, "1.5e+300"),
            (f64::INFINITY, "inf"),
        ] {
            assert_eq!(text(n), written);
        }
    }

    #[test]
    fn numbers_are_read_as_lua_reads_them() {
        for (written, n) in [
            (" 10 ", 10.0),
            ("-1.5e2", -150.0),
            ("0x1F", 31.0),
            (".5", 0.5),
            ("5.", 5.0),
        ] {
            assert_eq!(parse(written.as_bytes()), Some(n), "{written}");
        }
        for none in ["", "x", "1x", "inf", "nan", "0x", "1 2", "--1"] {
            assert_eq!(parse(none.as_bytes()), None, "{none}");
        }
    }
}
