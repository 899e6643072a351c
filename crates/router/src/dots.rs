//! The parts of a request's host that a wildcard may stand for. A host may be all dots and as long as a header: what is longer than any
//! wildcard is not looked at, or one request would be hashed over and over, with the square of its length.

/// From each dot to the end, the dot included, up to so many bytes.
pub(crate) fn suffixes(host: &str, longest: usize) -> impl Iterator<Item = &str> {
    let from = host.len().saturating_sub(longest);
    // Where a dot is, a character begins.
    memchr::memchr_iter(b'.', &host.as_bytes()[from..]).map(move |dot| &host[from + dot..])
}

/// From the start up to each dot, the dot included, up to so many bytes.
pub(crate) fn prefixes(host: &str, longest: usize) -> impl Iterator<Item = &str> {
    let to = host.len().min(longest);
    memchr::memchr_iter(b'.', &host.as_bytes()[..to]).map(move |dot| &host[..=dot])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_parts_as_long_as_a_wildcard_are_looked_at() {
        let all = |host, longest| {
            let both: (Vec<_>, Vec<_>) = (
                suffixes(host, longest).collect(),
                prefixes(host, longest).collect(),
            );
            both
        };
        assert_eq!(all("a.bc.d", 9), (vec![".bc.d", ".d"], vec!["a.", "a.bc."]));
        assert_eq!(all("a.bc.d", 5), (vec![".bc.d", ".d"], vec!["a.", "a.bc."]));
        assert_eq!(all("a.bc.d", 4), (vec![".d"], vec!["a."]));
        assert_eq!(all("a.bc.d", 0), (vec![], vec![]));
        assert_eq!(all("\u{e9}.\u{e9}", 3), (vec![".\u{e9}"], vec!["\u{e9}."]));
        let long = ".".repeat(8000);
        let (suffixes, prefixes) = all(&long, 20);
        assert_eq!((suffixes.len(), prefixes.len()), (20, 20));
    }
}
