//! Entries `name:value` in lists of configurations.

use serde_json::Value;
use silverback_schema::checks;

/// The sides of `name:value`. Any number of colons divides them and the value may hold more of them; it is empty when there is none.
/// `None` when there is no name.
pub fn split(pair: &str) -> Option<(&str, &str)> {
    let (name, rest) = pair.split_at(pair.find(':').unwrap_or(pair.len()));
    (!name.is_empty()).then(|| (name, rest.trim_start_matches(':')))
}

/// For a field's definition: the left side must be the name of a header.
///
/// # Errors
/// In Kong's words.
pub fn header_name(pair: &Value) -> Result<(), String> {
    let (name, _) = sides(pair)?;
    valid(name)
}

/// For a field's definition: both sides must be names of headers.
///
/// # Errors
/// In Kong's words.
pub fn header_names(pair: &Value) -> Result<(), String> {
    let (name, value) = sides(pair)?;
    valid(name)?;
    valid(value)
}

fn sides(pair: &Value) -> Result<(&str, &str), String> {
    // What Kong calls a name that is not there.
    let sides = pair.as_str().and_then(split);
    sides.ok_or_else(|| "'nil' is not a valid header".to_owned())
}

fn valid(name: &str) -> Result<(), String> {
    checks::header_name(&Value::from(name)).map_err(|_| format!("'{name}' is not a valid header"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colons_divide_a_pair() {
        assert_eq!(split("a:b"), Some(("a", "b")));
        assert_eq!(split("a::b:c"), Some(("a", "b:c")));
        assert_eq!(split("a"), Some(("a", "")));
        assert_eq!(split(":b"), None);
    }

    #[test]
    fn names_are_judged_in_kongs_words() {
        let said = |r: Result<(), String>| r.err().unwrap_or_default();
        assert_eq!(said(header_name(&"a:b c".into())), "");
        assert_eq!(
            said(header_name(&"a b:c".into())),
            "'a b' is not a valid header"
        );
        assert_eq!(
            said(header_names(&"a:b c".into())),
            "'b c' is not a valid header"
        );
        assert_eq!(
            said(header_name(&":a".into())),
            "'nil' is not a valid header"
        );
    }
}
