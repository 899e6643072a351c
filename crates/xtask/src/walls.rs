//! Who may import whom: the table of `crates/gateway/docs/architecture.md`, as data. Each direct dependency that a manifest
//! declares is held against it; nothing that is not listed is allowed, so that a new crate has to be given its place here.

use anyhow::Result;
use cargo_metadata::{DependencyKind, Metadata};

/// Rooms and what they may import. Whatever a room offers to others stands in its own public interface.
const ROOMS: &[(&str, &[&str])] = &[
    (
        "silverback",
        &[
            "silverback-admin",
            "silverback-proxy",
            "silverback-store",
            // What a node without a database starts from, and the commands `config db_import` and `db_export`.
            "silverback-declarative",
            "silverback-runtime",
            "silverback-telemetry",
            "silverback-bundled",
            // The composition root names what it hands from one room to the next: `Gateway::builder().plugin(mine())`, the
            // tables that the store loads and the runtime compiles, the settings of the resolver, of the router's flavour and
            // of the retry budget.
            "silverback-plugin",
            "silverback-entities",
            "silverback-schema",
            "silverback-balancer",
            "silverback-router",
            "silverback-retry",
        ],
    ),
    (
        "silverback-admin",
        &[
            "silverback-store",
            "silverback-declarative",
            "silverback-plugin",
            "silverback-entities",
            "silverback-schema",
        ],
    ),
    (
        "silverback-declarative",
        &[
            // The definitions of plugins' rows.
            "silverback-plugin",
            "silverback-entities",
            "silverback-schema",
        ],
    ),
    (
        "silverback-proxy",
        &[
            "silverback-runtime",
            "silverback-plugin",
            "silverback-balancer",
            "silverback-router",
            "silverback-retry",
            "silverback-telemetry",
        ],
    ),
    (
        "silverback-store",
        &["silverback-entities", "silverback-schema"],
    ),
    (
        "silverback-runtime",
        &[
            "silverback-router",
            "silverback-balancer",
            "silverback-retry",
            // A route's counters are looked up when the snapshot is built, never for a request.
            "silverback-telemetry",
            "silverback-plugin",
            "silverback-entities",
            // A plugin's configuration is held against its schema before it is compiled.
            "silverback-schema",
        ],
    ),
    ("silverback-router", &["silverback-entities"]),
    ("silverback-balancer", &["silverback-entities"]),
    ("silverback-entities", &["silverback-schema"]),
    ("silverback-limits", &["silverback-plugin"]),
    ("silverback-plugin", &["silverback-schema"]),
    ("silverback-export", &["silverback-plugin"]),
    ("silverback-schema", &[]),
    ("silverback-retry", &[]),
    ("silverback-telemetry", &[]),
];

/// What a plugin may import of the house: the contract, and what several plugins share.
const PLUGIN_MAY: &[&str] = &[
    "silverback-plugin",
    "silverback-limits",
    "silverback-export",
];

/// The explicit list of plugins, the one plugin crate that may name others.
const BUNDLED: &str = "silverback-bundled";

/// Whoever tests the house may look into every room.
const TESTERS: &[&str] = &["silverback-testkit", "silverback-tests"];

/// Crates around the house rather than in it. xtask meets the gateway as users do, as a program, and a yardstick has nothing
/// of what it measures.
const AROUND: &[(&str, &[&str])] = &[("xtask", &["silverback-testkit"]), ("bare-proxy", &[])];

/// A crate from outside that only some may import. A name that ends in `*` means all that start like this.
struct Wall {
    outside: &'static str,
    allowed: &'static [&'static str],
    /// Crates of others that sit between: `cargo deny` looks at them too.
    through: &'static [&'static str],
}

const WALLS: &[Wall] = &[
    Wall {
        outside: "pingora-core",
        allowed: &["silverback-proxy", "silverback", "bare-proxy"],
        through: &["pingora-proxy", "pingora-cache"],
    },
    Wall {
        outside: "pingora-proxy",
        allowed: &["silverback-proxy", "silverback", "bare-proxy"],
        through: &[],
    },
    Wall {
        outside: "pingora-http",
        allowed: &["silverback-proxy", "silverback", "bare-proxy"],
        through: &[
            "pingora-core",
            "pingora-proxy",
            "pingora-cache",
            "pingora-header-serde",
        ],
    },
    Wall {
        outside: "pingora*",
        allowed: &["silverback-proxy", "silverback", "bare-proxy"],
        through: &[],
    },
    Wall {
        outside: "axum",
        allowed: &["silverback-admin"],
        through: &[],
    },
    Wall {
        outside: "axum*",
        allowed: &["silverback-admin"],
        through: &[],
    },
    Wall {
        outside: "tokio-postgres",
        // The test kit is a client of its own test databases.
        allowed: &["silverback-store", "silverback-testkit"],
        through: &["deadpool-postgres", "postgres-openssl", "refinery-core"],
    },
    Wall {
        outside: "deadpool-postgres",
        allowed: &["silverback-store"],
        through: &[],
    },
    Wall {
        outside: "refinery",
        allowed: &["silverback-store"],
        through: &[],
    },
    Wall {
        outside: "postgres*",
        allowed: &["silverback-store"],
        through: &[],
    },
];

/// A crate of the workspace.
#[derive(Debug, Clone)]
struct Crate {
    name: String,
    /// Whether it lives under `plugins/`.
    is_plugin: bool,
    dependencies: Vec<Dependency>,
}

#[derive(Debug, Clone)]
struct Dependency {
    name: String,
    for_tests: bool,
}

/// What crosses a wall in the workspace, one sentence each.
pub(crate) fn check(metadata: &Metadata) -> Vec<String> {
    violations(&crates_of(metadata))
}

/// The bans of `deny.toml` that say the same, one line each.
pub(crate) fn bans(metadata: &Metadata) -> Result<Vec<String>> {
    let crates = crates_of(metadata);
    let mut lines = Vec::new();
    let mut ban = |name: &str, wrappers: Vec<&str>| {
        let wrappers: Vec<_> = wrappers.iter().map(|w| format!("{w:?}")).collect();
        lines.push(format!(
            "{{ crate = {name:?}, wrappers = [{}] }},",
            wrappers.join(", ")
        ));
    };
    for wall in WALLS.iter().filter(|wall| !wall.outside.ends_with('*')) {
        ban(
            wall.outside,
            wall.allowed.iter().chain(wall.through).copied().collect(),
        );
    }
    for (room, _) in ROOMS {
        let importers = crates
            .iter()
            .filter(|c| may_import(c, room, &crates))
            .map(|c| c.name.as_str());
        ban(room, importers.collect());
    }
    for plugin in crates.iter().filter(|c| c.is_plugin && c.name != BUNDLED) {
        let importers = crates
            .iter()
            .filter(|c| may_import(c, &plugin.name, &crates));
        ban(&plugin.name, importers.map(|c| c.name.as_str()).collect());
    }
    Ok(lines)
}

/// The table for people: room and what it may import.
pub(crate) fn table() -> Vec<String> {
    let mut lines = vec!["| crate | may import |".to_owned(), "|---|---|".to_owned()];
    for (room, may) in ROOMS {
        let may: Vec<_> = may.iter().map(|name| format!("`{name}`")).collect();
        let may = if may.is_empty() {
            "nothing of the house".to_owned()
        } else {
            may.join(", ")
        };
        lines.push(format!("| `{room}` | {may} |"));
    }
    let may: Vec<_> = PLUGIN_MAY.iter().map(|name| format!("`{name}`")).collect();
    let may = may.join(", ");
    lines.push(format!(
        "| each crate under `plugins/` | {may}, and what it alone needs from outside |"
    ));
    lines.push(format!("| `{BUNDLED}` | {may} and every plugin |"));
    lines
}

fn crates_of(metadata: &Metadata) -> Vec<Crate> {
    let plugins = metadata.workspace_root.join("plugins");
    let dependency = |d: &cargo_metadata::Dependency| Dependency {
        name: d.name.clone(),
        for_tests: d.kind == DependencyKind::Development,
    };
    let packages = metadata.workspace_packages();
    let crates = packages.iter().map(|package| Crate {
        name: package.name.to_string(),
        is_plugin: package.manifest_path.starts_with(&plugins),
        dependencies: package.dependencies.iter().map(dependency).collect(),
    });
    let mut crates: Vec<_> = crates.collect();
    crates.sort_by(|a, b| a.name.cmp(&b.name));
    crates
}

fn violations(crates: &[Crate]) -> Vec<String> {
    let mut found = Vec::new();
    for from in crates {
        if !from.is_plugin && !is_tester(&from.name) && place(&from.name).is_none() {
            found.push(format!("{} has no place in the table of rooms", from.name));
        }
        for to in &from.dependencies {
            let Some(why) = crossing(from, to, crates) else {
                continue;
            };
            let kind = if to.for_tests { " in its tests" } else { "" };
            found.push(format!("{} imports {}{kind}: {why}", from.name, to.name));
        }
    }
    found
}

/// Why `from` must not import `to`; `None` when it may.
fn crossing(from: &Crate, to: &Dependency, crates: &[Crate]) -> Option<String> {
    if let Some(wall) = WALLS.iter().find(|wall| wall.stands_before(&to.name)) {
        let may = wall.allowed.contains(&from.name.as_str());
        return (!may).then(|| format!("only {} may", wall.allowed.join(", ")));
    }
    if !crates.iter().any(|c| c.name == to.name) || may_import(from, &to.name, crates) {
        return None;
    }
    let to_plugin = crates.iter().any(|c| c.is_plugin && c.name == to.name);
    if from.is_plugin && to_plugin {
        return Some("a plugin never imports another".into());
    }
    // Tests of a room may set up what their room works with.
    if to.for_tests {
        return None;
    }
    Some(match place(&from.name) {
        _ if from.is_plugin => format!("a plugin imports only {}", PLUGIN_MAY.join(", ")),
        Some(may) if !may.is_empty() => format!("it may import {}", may.join(", ")),
        _ => "it may import nothing of the house".into(),
    })
}

/// Whether the crate `from` may import the workspace crate `to`, tests aside.
fn may_import(from: &Crate, to: &str, crates: &[Crate]) -> bool {
    if is_tester(&from.name) {
        return true;
    }
    if from.is_plugin {
        let every_plugin =
            from.name == BUNDLED && crates.iter().any(|c| c.is_plugin && c.name == to);
        return PLUGIN_MAY.contains(&to) || (every_plugin && to != BUNDLED);
    }
    place(&from.name).is_some_and(|may| may.contains(&to))
}

fn is_tester(name: &str) -> bool {
    TESTERS.contains(&name)
}

/// What a crate with a fixed place may import.
fn place(name: &str) -> Option<&'static [&'static str]> {
    ROOMS
        .iter()
        .chain(AROUND)
        .find(|(room, _)| *room == name)
        .map(|(_, may)| *may)
}

impl Wall {
    fn stands_before(&self, name: &str) -> bool {
        match self.outside.strip_suffix('*') {
            Some(start) => name.starts_with(start),
            None => name == self.outside,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn made_up(name: &str, is_plugin: bool, dependencies: &[&str]) -> Crate {
        let dependency = |d: &&str| match d.strip_prefix("dev:") {
            Some(name) => Dependency {
                name: name.into(),
                for_tests: true,
            },
            None => Dependency {
                name: (*d).into(),
                for_tests: false,
            },
        };
        Crate {
            name: name.into(),
            is_plugin,
            dependencies: dependencies.iter().map(dependency).collect(),
        }
    }

    /// The violations of a house in which one crate has these dependencies.
    fn house(name: &str, is_plugin: bool, dependencies: &[&str]) -> Vec<String> {
        let mut crates: Vec<_> = ROOMS
            .iter()
            .map(|(room, may)| made_up(room, false, may))
            .collect();
        crates.push(made_up(
            "silverback-key-auth",
            true,
            &["silverback-plugin", "base64"],
        ));
        crates.push(made_up(
            "silverback-bundled",
            true,
            &["silverback-plugin", "silverback-key-auth"],
        ));
        crates.retain(|c| c.name != name);
        crates.push(made_up(name, is_plugin, dependencies));
        violations(&crates)
    }

    #[test]
    fn the_workspace_keeps_its_walls() {
        let crossed = check(&crate::repo::metadata().unwrap());
        assert!(crossed.is_empty(), "{}", crossed.join("\n"));
    }

    #[test]
    fn the_table_itself_is_a_house_without_violations() {
        assert_eq!(
            house("silverback-retry", false, &["rand"]),
            Vec::<String>::new()
        );
    }

    #[test]
    fn a_room_that_looks_into_another_is_told() {
        assert_eq!(
            house("silverback-proxy", false, &["silverback-store"]).len(),
            1
        );
        assert_eq!(
            house("silverback-admin", false, &["silverback-proxy"]).len(),
            1
        );
        assert_eq!(
            house("silverback-schema", false, &["silverback-entities"]).len(),
            1
        );
        assert_eq!(
            house("silverback-runtime", false, &["silverback-key-auth"]).len(),
            1
        );
        assert_eq!(
            house("silverback-runtime", false, &["silverback-limits"]).len(),
            1
        );
    }

    #[test]
    fn a_plugin_that_imports_another_is_told_even_in_its_tests() {
        assert_eq!(
            house("silverback-acl", true, &["silverback-key-auth"]).len(),
            1
        );
        assert_eq!(
            house("silverback-acl", true, &["dev:silverback-key-auth"]).len(),
            1
        );
        assert_eq!(
            house("silverback-acl", true, &["silverback-runtime"]).len(),
            1
        );
        assert!(house("silverback-acl", true, &["silverback-plugin", "redis"]).is_empty());
        assert!(house("silverback-acl", true, &["silverback-limits"]).is_empty());
        let shared = ["silverback-plugin", "silverback-export"];
        assert!(house("silverback-acl", true, &shared).is_empty());
    }

    #[test]
    fn libraries_stay_in_their_room() {
        for (name, library) in [
            ("silverback-runtime", "pingora-core"),
            ("silverback-proxy", "axum"),
            ("silverback-proxy", "tokio-postgres"),
            ("silverback-admin", "dev:deadpool-postgres"),
            ("silverback-admin", "pingora-load-balancing"),
            ("silverback", "axum"),
        ] {
            assert_eq!(
                house(name, false, &[library]).len(),
                1,
                "{name} imports {library}"
            );
        }
        assert!(house("silverback", false, &["pingora-core"]).is_empty());
        assert_eq!(
            house("xtask", false, &["silverback-testkit", "silverback"]).len(),
            1
        );
        assert_eq!(
            house("bare-proxy", false, &["pingora-core", "silverback-proxy"]).len(),
            1
        );
        assert!(
            house(
                "silverback-testkit",
                false,
                &["silverback", "tokio-postgres"]
            )
            .is_empty()
        );
    }

    #[test]
    fn tests_of_a_room_may_set_up_what_it_works_with() {
        assert!(house("silverback-proxy", false, &["dev:silverback-key-auth"]).is_empty());
    }

    #[test]
    fn a_crate_without_a_place_is_told() {
        assert_eq!(house("silverback-attic", false, &[]).len(), 1);
    }
}
