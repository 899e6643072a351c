//! Who this node is: an id that survives restarts, kept below the prefix.

use std::path::Path;

use anyhow::Context as _;
use uuid::Uuid;

/// The node's id: from `<prefix>/node.id`, made there at the first start.
///
/// # Errors
/// When the file can be neither read nor written.
pub(crate) fn node_id(prefix: &Path) -> anyhow::Result<Uuid> {
    let path = prefix.join("node.id");
    if let Ok(text) = std::fs::read_to_string(&path)
        && let Ok(id) = Uuid::parse_str(text.trim())
    {
        return Ok(id);
    }
    let id = Uuid::new_v4();
    std::fs::create_dir_all(prefix).with_context(|| prefix.display().to_string())?;
    std::fs::write(&path, format!("{id}\n")).with_context(|| path.display().to_string())?;
    Ok(id)
}

/// The machine's name.
pub(crate) fn hostname() -> String {
    nix::unistd::gethostname()
        .ok()
        .and_then(|h| h.into_string().ok())
        .unwrap_or_else(|| "localhost".into())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_node_keeps_its_id_over_restarts() {
        let dir = tempfile::tempdir().unwrap();
        let first = node_id(&dir.path().join("deep")).unwrap();
        assert_eq!(node_id(&dir.path().join("deep")).unwrap(), first);
        std::fs::write(dir.path().join("deep/node.id"), "no id").unwrap();
        assert_ne!(node_id(&dir.path().join("deep")).unwrap(), first);
    }
}
