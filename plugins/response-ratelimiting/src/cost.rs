//! What the upstream says that a response costs (`parse_header` in `kong/plugins/response-ratelimiting/header_filter.lua`).

use http::HeaderValue;

/// Calls `found` with each name and amount of a header such as `video=1, img=2`, in order. What is no amount is told as 0; what has no name is
/// passed over. Amounts are whole: a part of one counts as one. Nothing is given back.
pub(crate) fn parse<'a>(
    values: impl IntoIterator<Item = &'a HeaderValue>,
    mut found: impl FnMut(&'a [u8], u64),
) {
    let parts = values
        .into_iter()
        .flat_map(|v| v.as_bytes().split(|b| *b == b','));
    for part in parts {
        let mut sides = part.split(|b| *b == b'=');
        if let (Some(name), Some(number), None) = (sides.next(), sides.next(), sides.next()) {
            found(name.trim_ascii(), amount(number.trim_ascii()));
        }
    }
}

fn amount(number: &[u8]) -> u64 {
    let text = std::str::from_utf8(number).unwrap_or_default();
    text.parse().unwrap_or_else(|_| match text.parse::<f64>() {
        // Saturates, and is 0 below 0.
        Ok(n) if n.is_finite() => n.ceil() as u64,
        _ => 0,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn parsed(lines: &[&str]) -> Vec<(String, u64)> {
        let lines: Vec<_> = lines
            .iter()
            .map(|l| HeaderValue::from_str(l).unwrap())
            .collect();
        let mut all = Vec::new();
        parse(&lines, |name, amount| {
            all.push((String::from_utf8(name.to_vec()).unwrap(), amount));
        });
        all
    }

    #[test]
    fn names_and_amounts_are_read_from_all_lines() {
        let expected = [("video", 1), ("img", 20), ("x y", 3)].map(|(n, a)| (n.to_owned(), a));
        assert_eq!(parsed(&["video=1, img = 20 ", " x y=3"]), expected);
    }

    #[test]
    fn what_is_no_pair_is_passed_over() {
        assert!(parsed(&["video", "", ",", "a=1=2"]).is_empty());
    }

    #[test]
    fn amounts_are_whole_and_never_negative() {
        for (text, expected) in [
            ("1.2", 2),
            ("1e3", 1000),
            ("0", 0),
            ("-4", 0),
            ("-0.5", 0),
            ("", 0),
            ("many", 0),
            ("nan", 0),
            ("inf", 0),
            ("1e300", u64::MAX),
            ("99999999999999999999", u64::MAX),
        ] {
            assert_eq!(
                parsed(&[&format!("v={text}")]),
                [("v".into(), expected)],
                "{text}"
            );
        }
    }
}
