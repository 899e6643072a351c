//! Numbers in headers.

use std::sync::LazyLock;

use http::HeaderValue;

/// Numbers below this are written once and for all: a header then costs no allocation.
const COMMON: usize = 10_000;

static DIGITS: LazyLock<&'static str> = LazyLock::new(|| {
    let digits: String = (0..COMMON).map(|n| format!("{n:04}")).collect();
    Box::leak(digits.into_boxed_str())
});

/// A number as Kong writes it: whole ones without a point.
pub fn number(n: f64) -> HeaderValue {
    if n.fract() != 0.0 || n < 0.0 {
        return HeaderValue::from_str(&n.to_string())
            .unwrap_or_else(|_| HeaderValue::from_static("0"));
    }
    let whole = n as u64;
    match usize::try_from(whole) {
        Ok(small) if small < COMMON => {
            let zeros = if small >= 1000 {
                0
            } else if small >= 100 {
                1
            } else if small >= 10 {
                2
            } else {
                3
            };
            let digits: &'static str = *DIGITS;
            HeaderValue::from_static(&digits[small * 4 + zeros..small * 4 + 4])
        }
        _ => HeaderValue::from(whole),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_lua_writes_them() {
        for (n, text) in [
            (0.0, "0"),
            (7.0, "7"),
            (10.0, "10"),
            (999.0, "999"),
            (9999.0, "9999"),
            (10000.0, "10000"),
            (2.5, "2.5"),
            (-1.0, "-1"),
            (-0.5, "-0.5"),
        ] {
            assert_eq!(number(n), text);
        }
    }
}
