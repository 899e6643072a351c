//! What older versions of the file mean in this one. Of Kong's own migrations one concerns us: before 3.0 a path of a route was a
//! regular expression when it looked like one (`kong/db/declarative/migrations/route_path.lua`, `migrate_path_280_300.lua`).

use serde_json::{Map, Value};
use silverback_entities::normalize_path;

const VERSION: &str = "_format_version";

/// Brings a tree to version 3.0: top-level routes, and those of services.
pub(crate) fn migrate(tree: &mut Map<String, Value>) {
    if !matches!(
        tree.get(VERSION).and_then(Value::as_str),
        Some("1.1" | "2.1")
    ) {
        return;
    }
    routes(tree.get_mut("routes"));
    if let Some(Value::Array(services)) = tree.get_mut("services") {
        services
            .iter_mut()
            .for_each(|service| routes(service.get_mut("routes")));
    }
    tree.insert(VERSION.into(), "3.0".into());
}

fn routes(list: Option<&mut Value>) {
    let Some(Value::Array(list)) = list else {
        return;
    };
    for route in list {
        if let Some(Value::Array(paths)) = route.get_mut("paths") {
            for slot in paths {
                if let Value::String(path) = slot {
                    *path = migrated(path);
                }
            }
        }
    }
}

fn migrated(path: &str) -> String {
    let harmless = |b: u8| b.is_ascii_alphanumeric() || b".-_~/%".contains(&b);
    if path.bytes().all(harmless) {
        // What decodes to no text stays, and is refused for it.
        String::from_utf8(normalize_path(path.as_bytes())).unwrap_or_else(|_| path.to_owned())
    } else {
        format!("~{}", decoded(path))
    }
}

/// Since 3.0 escapes in regular expressions are not decoded any more: those of unreserved characters are decoded here, for the last
/// time.
fn decoded(regex: &str) -> String {
    let mut out = String::with_capacity(regex.len());
    let mut rest = regex;
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let byte = rest
            .get(1..3)
            .filter(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit()))
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        let Some(byte) = byte.filter(u8::is_ascii) else {
            out.push('%');
            rest = &rest[1..];
            continue;
        };
        match byte {
            b if b"!#$%&'()*+,/:;=?@[]".contains(&b) => {
                out.push_str(&rest[..3].to_ascii_uppercase());
            }
            b if b".^-{}\\|".contains(&b) => out.extend(['\\', b.into()]),
            b => out.push(b.into()),
        }
        rest = &rest[3..];
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn paths_that_look_like_patterns_become_patterns() {
        for (old, new) in [
            ("/a/./b//c", "/a/b/c"),
            ("/a%2Fb%41", "/a%2FbA"),
            ("/a/(b|c)", "~/a/(b|c)"),
            (r"/u/\d+$", r"~/u/\d+$"),
            ("/(a%2fb%2Ec%41%zz)", r"~/(a%2Fb\.cA%zz)"),
        ] {
            assert_eq!(migrated(old), new, "{old}");
        }
    }

    #[test]
    fn only_older_files_are_changed() {
        let tree = |version: &str| json!({ "_format_version": version, "routes": [{ "paths": ["/(a)"] }, 1], "services": [{ "routes": [{ "paths": ["/(b)"] }] }] });
        let mut old = tree("2.1");
        migrate(old.as_object_mut().unwrap());
        assert_eq!(
            old,
            json!({ "_format_version": "3.0", "routes": [{ "paths": ["~/(a)"] }, 1], "services": [{ "routes": [{ "paths": ["~/(b)"] }] }] })
        );
        let mut new = tree("3.0");
        migrate(new.as_object_mut().unwrap());
        assert_eq!(new, tree("3.0"));
    }
}
