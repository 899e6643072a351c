//! Regular expressions in route paths.

/// A path pattern that the router can compile; the text is Kong's with the compiler's own words in it.
pub(crate) fn path_pattern(pattern: &str) -> Result<(), String> {
    match regex::Regex::new(pattern) {
        Ok(_) => Ok(()),
        Err(e) => Err(format!("invalid regex: '{pattern}' (PCRE returned: {e})")),
    }
}
