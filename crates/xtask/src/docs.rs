//! `cargo xtask docs`: what is said twice is written once. Fills the blocks
//! `<!-- generated: NAME -->` ... `<!-- end: NAME -->` (in TOML files with `#`) and checks that links between documents lead somewhere.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::{admin_api, demo, repo, walls};

/// Fills the blocks, or with `check` only says which are stale.
pub(crate) fn run(check: bool) -> Result<()> {
    let root = repo::root();
    let mut problems = Vec::new();
    for path in documents(&root)? {
        let text =
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let shown = path.strip_prefix(&root).unwrap_or(&path).display();
        let fresh = fill(&text, block).with_context(|| shown.to_string())?;
        if fresh != text {
            if check {
                problems.push(format!("{shown} is stale: run cargo xtask docs"));
            } else {
                fs::write(&path, &fresh)
                    .with_context(|| format!("cannot write {}", path.display()))?;
                println!("updated {shown}");
            }
        }
        for link in relative_links(&fresh) {
            let target = link.split('#').next().unwrap_or_default();
            if !path.with_file_name("").join(target).exists() {
                problems.push(format!("{shown} links to {link}, which is not there"));
            }
        }
    }
    if !problems.is_empty() {
        bail!("{}", problems.join("\n"));
    }
    Ok(())
}

fn block(name: &str) -> Result<Vec<String>> {
    match name {
        "walls" => walls::bans(&repo::metadata()?),
        "rooms" => Ok(walls::table()),
        "admin-api" => admin_api::page(),
        "demo-calls" => Ok(demo::calls_for_readme()),
        _ => bail!("nobody generates {name:?}"),
    }
}

fn documents(root: &Path) -> Result<Vec<PathBuf>> {
    let mut found = vec![root.join("deny.toml")];
    let mut folders: Vec<PathBuf> = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries =
            fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?;
        for entry in entries {
            let entry = entry?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            let kind = entry.file_type()?;
            if kind.is_dir() && !name.starts_with('.') && name != "target" && name != "node_modules"
            {
                folders.push(entry.path());
            } else if kind.is_file() && name.ends_with(".md") {
                found.push(entry.path());
            }
        }
    }
    found.sort();
    Ok(found)
}

/// The text with every block between its markers replaced; blocks keep the indentation of their first marker.
fn fill(text: &str, block: impl Fn(&str) -> Result<Vec<String>>) -> Result<String> {
    let mut out = String::new();
    let mut open: Option<&str> = None;
    for line in text.split_inclusive('\n') {
        if let Some(name) = open {
            if marker(line, "end") == Some(name) {
                open = None;
                out.push_str(line);
            }
            continue;
        }
        out.push_str(line);
        if let Some(name) = marker(line, "generated") {
            let indent = &line[..line.len() - line.trim_start().len()];
            for fresh in block(name)? {
                out.push_str(indent);
                out.push_str(&fresh);
                out.push('\n');
            }
            open = Some(name);
        }
    }
    match open {
        Some(name) => bail!("the block {name:?} has no end"),
        None => Ok(out),
    }
}

/// The name in `<!-- word: NAME -->` or `# word: NAME`.
fn marker<'a>(line: &'a str, word: &str) -> Option<&'a str> {
    let line = line.trim();
    let inner = match line.strip_prefix("<!--") {
        Some(rest) => rest.strip_suffix("-->")?,
        None => line.strip_prefix("# ")?,
    };
    let name = inner.trim().strip_prefix(word)?.strip_prefix(": ")?.trim();
    (!name.is_empty() && !name.contains(' ')).then_some(name)
}

/// Targets of Markdown links that point into the repository, those in code left out.
fn relative_links(text: &str) -> Vec<String> {
    let mut links = Vec::new();
    let mut in_code = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
        }
        if in_code {
            continue;
        }
        // What stands between backticks is code as well: every second piece.
        for piece in line.split('`').step_by(2) {
            let mut rest = piece;
            while let Some((_, tail)) = rest.split_once("](") {
                let target = tail.split([')', ' ']).next().unwrap_or_default();
                rest = &tail[target.len()..];
                if !target.is_empty()
                    && !target.contains("://")
                    && !target.starts_with(['#', '/'])
                    && !target.starts_with("mailto:")
                {
                    links.push(target.to_owned());
                }
            }
        }
    }
    links
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_filled_and_filling_again_changes_nothing() {
        let text =
            "a\n  # generated: x\n  old\n  # end: x\nb\n<!-- generated: y -->\n<!-- end: y -->\n";
        let block = |name: &str| Ok(vec![format!("new {name}")]);
        let once = fill(text, block).unwrap();
        assert_eq!(
            once,
            "a\n  # generated: x\n  new x\n  # end: x\nb\n<!-- generated: y -->\nnew y\n<!-- end: y -->\n"
        );
        assert_eq!(fill(&once, block).unwrap(), once);
    }

    #[test]
    fn a_block_without_an_end_or_a_generator_is_an_error() {
        assert!(fill("# generated: x\n", |_| Ok(Vec::new())).is_err());
        assert!(
            fill(
                "# generated: nothing-of-ours\n# end: nothing-of-ours\n",
                block
            )
            .is_err()
        );
    }

    #[test]
    fn prose_about_generating_is_no_marker() {
        assert_eq!(
            marker("# generated: by hand and not by us", "generated"),
            None
        );
        assert_eq!(marker("This was generated: x", "generated"), None);
    }

    #[test]
    fn only_links_into_the_repository_are_followed() {
        let text = "[a](docs/a.md#x) [b](https://b) [c](#c) `[d](d.md)`\n```\n[e](e.md)\n```\n[f](f.md) [g](g.md)";
        assert_eq!(relative_links(text), ["docs/a.md#x", "f.md", "g.md"]);
    }
}
