//! The snapshot file: the rows of the last good configuration, so that a node starts and serves while Postgres is away.
//!
//! It holds secrets (keys, passwords of plugins), so only its owner may read it.

use std::fs;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use silverback_entities::Tables;

/// Raised when the form of the file changes; a file of another form is not read.
const FORMAT: u32 = 2;

#[derive(Serialize)]
struct Out<'a> {
    format: u32,
    tables: &'a Tables,
}

#[derive(Deserialize)]
struct Head {
    format: u32,
}

#[derive(Deserialize)]
struct In {
    tables: Tables,
}

/// Why a snapshot file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It cannot be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is damaged.
    #[error("{path} is damaged: {source}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What the parser said.
        source: serde_json::Error,
    },
    /// Another version of the gateway wrote it.
    #[error("{path} has format {found}, this version reads {FORMAT}")]
    Format {
        /// The file.
        path: PathBuf,
        /// What it says.
        found: u32,
    },
}

/// Writes the rows, in place of an earlier file at once or not at all.
///
/// # Errors
/// When the file cannot be written; an earlier one is untouched then.
pub fn save(path: &Path, tables: &Tables) -> Result<(), FileError> {
    let io_err = |source| FileError::Io {
        path: path.to_owned(),
        source,
    };
    let next = path.with_extension("next");
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir).map_err(io_err)?;
    }
    // A leftover of a crash may have other rights.
    let _ = fs::remove_file(&next);
    let file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&next)
        .map_err(io_err)?;
    let mut out = BufWriter::new(file);
    serde_json::to_writer(
        &mut out,
        &Out {
            format: FORMAT,
            tables,
        },
    )
    .map_err(|e| io_err(e.into()))?;
    let file = out.into_inner().map_err(|e| io_err(e.into_error()))?;
    (&file).flush().map_err(io_err)?;
    file.sync_all().map_err(io_err)?;
    fs::rename(&next, path).map_err(io_err)
}

/// Reads the rows; `None` when there is no file.
///
/// # Errors
/// When there is a file that cannot be used.
pub fn load(path: &Path) -> Result<Option<Tables>, FileError> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => {
            return Err(FileError::Io {
                path: path.to_owned(),
                source,
            });
        }
    };
    let damaged = |source| FileError::Damaged {
        path: path.to_owned(),
        source,
    };
    let head: Head = serde_json::from_slice(&text).map_err(damaged)?;
    if head.format != FORMAT {
        return Err(FileError::Format {
            path: path.to_owned(),
            found: head.format,
        });
    }
    let read: In = serde_json::from_slice(&text).map_err(damaged)?;
    Ok(Some(read.tables))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn what_was_saved_is_loaded_and_only_the_owner_can_read_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deep/snapshot.json");
        assert!(load(&path).unwrap().is_none());
        save(
            &path,
            &Tables {
                revision: 7,
                ..Tables::default()
            },
        )
        .unwrap();
        save(
            &path,
            &Tables {
                revision: 8,
                ..Tables::default()
            },
        )
        .unwrap();
        assert_eq!(load(&path).unwrap().unwrap().revision, 8);
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
    }

    #[test]
    fn a_damaged_file_and_one_of_another_format_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("snapshot.json");
        fs::write(&path, "{\"format\":2,\"tables\":{\"rev").unwrap();
        assert!(matches!(load(&path), Err(FileError::Damaged { .. })));
        fs::write(&path, "{\"format\":99}").unwrap();
        assert!(matches!(
            load(&path),
            Err(FileError::Format { found: 99, .. })
        ));
    }
}
