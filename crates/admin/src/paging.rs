//! `size`, `offset` and `tags` of collections (`kong/api/endpoints.lua`, `kong/db/dao/init.lua`), and the link to the next page.

use std::borrow::Cow;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use silverback_schema::EntityDef;
use silverback_store::{ListQuery, TagFilter};
use uuid::Uuid;

use crate::errors::ApiError;

const DEFAULT_SIZE: u32 = 100;
const MAX_SIZE: f64 = 1000.0;
const MAX_TAGS: usize = 5;
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// The query of a URL, decoded. Of an argument that comes several times the first counts.
#[derive(Debug, Clone, Default)]
pub(crate) struct Args<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl<'a> Args<'a> {
    /// From the text behind `?`.
    pub(crate) fn parse(query: Option<&'a str>) -> Self {
        Args(
            query
                .map(|q| form_urlencoded::parse(q.as_bytes()).collect())
                .unwrap_or_default(),
        )
    }

    /// The value of an argument.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, v)| v.as_ref())
    }

    /// All arguments.
    pub(crate) fn into_pairs(self) -> Vec<(Cow<'a, str>, Cow<'a, str>)> {
        self.0
    }

    /// The value of an argument that may be written as a list: `tags=`, `tags[]=`, `tags[1]=`.
    fn first(&self, name: &str) -> Option<&str> {
        let is = |n: &str| {
            n == name
                || n.strip_prefix(name)
                    .is_some_and(|rest| rest.starts_with('['))
        };
        self.0.iter().find(|(n, _)| is(n)).map(|(_, v)| v.as_ref())
    }

    /// What page of a collection is asked for.
    pub(crate) fn page(
        &self,
        def: &EntityDef,
        parent: Option<(&'static str, Uuid)>,
    ) -> Result<ListQuery, ApiError> {
        let tags = self.first("tags").filter(|_| def.has_tags());
        if tags == Some("") {
            return Err(ApiError::invalid_option("tags", "cannot be null"));
        }
        let size = self.size()?;
        let tags = tags.map(tag_filter).transpose()?;
        // Kong reads the filter below another row, complains about a bad one, and does not apply it.
        let tags = tags.filter(|_| parent.is_none());
        Ok(ListQuery {
            parent,
            tags,
            size,
            offset: self.get("offset").map(str::to_owned),
        })
    }

    /// `?dry_run=`: whether a write is only to be tried.
    pub(crate) fn dry_run(&self) -> Result<bool, ApiError> {
        match self.get("dry_run") {
            None | Some("false" | "0") => Ok(false),
            Some("true" | "1") => Ok(true),
            // Better not to write than to have misunderstood.
            Some(_) => Err(ApiError::invalid_option("dry_run", "must be true or false")),
        }
    }

    /// How many rows are asked for.
    pub(crate) fn size(&self) -> Result<u32, ApiError> {
        let Some(text) = self.get("size") else {
            return Ok(DEFAULT_SIZE);
        };
        let size = number(text).ok_or_else(|| ApiError::invalid_size("size must be a number"))?;
        if size.fract() != 0.0 || !(1.0..=MAX_SIZE).contains(&size) {
            return Err(ApiError::invalid_size(
                "size must be an integer between 1 and 1000",
            ));
        }
        // Whole and at most 1000.
        Ok(size as u32)
    }

    /// The path of the next page. As in Kong, pages below another row do not keep their size.
    pub(crate) fn next(&self, path: &str, offset: &str, nested: bool) -> String {
        let mut out = format!("{path}?offset={}", escape(offset));
        if nested {
            return out;
        }
        if let Some(tags) = self.first("tags") {
            out.push_str("&tags=");
            out.push_str(&escape(tags));
        }
        if let Some(size) = self.get("size") {
            out.push_str("&size=");
            out.push_str(&escape(size));
        }
        out
    }
}

/// As in a path or a query.
pub(crate) fn escape(text: &str) -> String {
    utf8_percent_encode(text, UNRESERVED).to_string()
}

/// What Lua's `tonumber` takes, but for the odd forms of infinity.
pub(crate) fn number(text: &str) -> Option<f64> {
    let text = text.trim();
    if let Some(hex) = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        return u32::from_str_radix(hex, 16).ok().map(f64::from);
    }
    let digits = text.trim_start_matches(['+', '-']);
    digits
        .starts_with(|c: char| c.is_ascii_digit() || c == '.')
        .then(|| text.parse().ok())
        .flatten()
}

fn tag_filter(text: &str) -> Result<TagFilter, ApiError> {
    let split = |by: char| -> Option<Vec<String>> {
        let parts: Vec<&str> = text.strip_suffix(by).unwrap_or(text).split(by).collect();
        let fine = |p: &&str| !p.is_empty() && p.chars().all(is_tag_char);
        parts
            .iter()
            .all(fine)
            .then(|| parts.into_iter().map(str::to_owned).collect())
    };
    let (filter, n) = if let Some(all) = split(',') {
        let n = all.len();
        (TagFilter::All(all), n)
    } else if let Some(any) = split('/') {
        let n = any.len();
        (TagFilter::Any(any), n)
    } else {
        return Err(ApiError::invalid_option("tags", "invalid filter syntax"));
    };
    if n > MAX_TAGS {
        return Err(ApiError::invalid_option(
            "tags",
            "cannot query more than 5 tags",
        ));
    }
    Ok(filter)
}

fn is_tag_char(c: char) -> bool {
    !c.is_ascii() || ((' '..='~').contains(&c) && c != ',' && c != '/')
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::Value;
    use silverback_schema::field::{set, string};

    use super::*;

    fn def() -> EntityDef {
        EntityDef::new("x", vec![("tags", set(string()))])
    }

    fn page(query: &str) -> Result<ListQuery, Box<(Value, Value)>> {
        Args::parse(Some(query))
            .page(&def(), None)
            .map_err(|e| match e {
                ApiError::Json(_, body) => {
                    Box::new((body["message"].clone(), body["code"].clone()))
                }
                other => panic!("{other:?}"),
            })
    }

    #[test]
    fn sizes_are_whole_numbers_up_to_1000() {
        assert_eq!(Args::parse(None).page(&def(), None).unwrap().size, 100);
        for (good, n) in [
            ("1", 1),
            ("1000", 1000),
            ("1e2", 100),
            ("0x10", 16),
            ("7.0", 7),
        ] {
            assert_eq!(page(&format!("size={good}")).unwrap().size, n);
        }
        for bad in ["0", "-1", "1001", "1.5", "1e99"] {
            let (text, code) = *page(&format!("size={bad}")).unwrap_err();
            assert_eq!(text, "size must be an integer between 1 and 1000", "{bad}");
            assert_eq!(code, 9);
        }
        for bad in ["abc", "", "inf", "nan", "1x"] {
            assert_eq!(
                page(&format!("size={bad}")).unwrap_err().0,
                "size must be a number",
                "{bad}"
            );
        }
    }

    #[test]
    fn commas_mean_all_and_slashes_any() {
        let all = |t: &[&str]| Some(TagFilter::All(t.iter().map(|s| (*s).into()).collect()));
        let any = |t: &[&str]| Some(TagFilter::Any(t.iter().map(|s| (*s).into()).collect()));
        assert_eq!(page("tags=a").unwrap().tags, all(&["a"]));
        assert_eq!(page("tags=a,b").unwrap().tags, all(&["a", "b"]));
        assert_eq!(page("tags=a/b").unwrap().tags, any(&["a", "b"]));
        assert_eq!(page("tags=a/").unwrap().tags, any(&["a"]));
        assert_eq!(page("tags[]=a").unwrap().tags, all(&["a"]));
        assert_eq!(page("tags=a&tags=b").unwrap().tags, all(&["a"]));
        assert_eq!(page("tags=%C3%A4%20b").unwrap().tags, all(&["ä b"]));
    }

    #[test]
    fn bad_filters_are_refused_in_kongs_words() {
        for bad in ["a,b/c", ",", "a,,b", "%01"] {
            let (text, code) = *page(&format!("tags={bad}")).unwrap_err();
            assert_eq!(
                text, "invalid option (tags: invalid filter syntax)",
                "{bad}"
            );
            assert_eq!(code, 11);
        }
        assert_eq!(
            page("tags=").unwrap_err().0,
            "invalid option (tags: cannot be null)"
        );
        assert_eq!(
            page("tags=1,2,3,4,5,6").unwrap_err().0,
            "invalid option (tags: cannot query more than 5 tags)"
        );
    }

    #[test]
    fn entities_without_tags_ignore_the_filter() {
        let def = EntityDef::new("x", vec![("a", string())]);
        assert_eq!(
            Args::parse(Some("tags=a,b/c"))
                .page(&def, None)
                .unwrap()
                .tags,
            None
        );
    }

    #[test]
    fn below_another_row_a_filter_is_only_checked() {
        let page = |q| Args::parse(Some(q)).page(&def(), Some(("service", Uuid::nil())));
        assert_eq!(page("tags=a").unwrap().tags, None);
        assert!(page("tags=a,b/c").is_err());
    }

    #[test]
    fn next_links_keep_filter_and_size() {
        let args = Args::parse(Some("tags=a,b&size=2&offset=old"));
        assert_eq!(
            args.next("/services", "W+/=", false),
            "/services?offset=W%2B%2F%3D&tags=a%2Cb&size=2"
        );
        assert_eq!(
            args.next("/services/x/routes", "W", true),
            "/services/x/routes?offset=W"
        );
    }
}
