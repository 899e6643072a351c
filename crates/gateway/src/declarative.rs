//! Declarative configuration: what a node without a database starts from, and `silverback config parse | db_import | db_export | init`.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, anyhow, bail};
use indicatif::{ProgressBar, ProgressStyle};
use silverback_declarative::{Declared, EMPTY_HASH, Format, Row, Source, Writer, hash};
use silverback_plugin::PluginDef;
use silverback_plugin::schema::{EntityDef, Violations};
use silverback_store::{Store, StoreError};

use crate::cli::Declarative;
use crate::config::{Config, Database};
use crate::node::{entities, flavor, routable};
use crate::pg;

/// The example that `silverback config init` writes.
const EXAMPLE: &str = include_str!("../silverback.yml");

/// Who writes what is imported, in the history.
const ACTOR: &str = "silverback config db_import";

/// Bytes of an export that are written at once.
const PIECE: usize = 1 << 20;

/// Where a node without a database keeps the configuration that it was given last.
pub(crate) fn kept_at(config: &Config) -> PathBuf {
    config.prefix.join("declarative.json")
}

/// Gives a store without a database what the settings say; without any the configuration that the node had before (as Kong keeps it in
/// its LMDB), or else an empty one.
///
/// # Errors
/// When the configuration cannot be read or is wrong.
pub(crate) fn load_at_start(
    config: &Config,
    store: &Store,
    plugins: &[PluginDef],
) -> anyhow::Result<()> {
    let checker = Checker::new(config, plugins);
    if let Some(path) = &config.declarative_config {
        let name = path.display().to_string();
        let read = fs::read(path).map_err(|e| anyhow!("{name}: {e}"));
        let parsed = read.and_then(|text| Ok((checker.parse(&text, Source::File(&name))?, text)));
        let (declared, text) =
            parsed.map_err(|e| anyhow!("error parsing declarative config file {name}:\n{e}"))?;
        replace(store, declared, hash(&text))?;
        tracing::info!("declarative config loaded from {name}");
        return Ok(());
    }
    if let Some(text) = &config.declarative_config_string {
        let text = text.expose().as_bytes();
        // The text itself holds secrets.
        let declared = checker
            .parse(text, Source::Nameless)
            .map_err(|e| anyhow!("error parsing declarative string:\n{e}"))?;
        return replace(store, declared, hash(text));
    }
    if store.restore()? {
        tracing::info!("serving the configuration that was given last");
        return Ok(());
    }
    Ok(store.replace(BTreeMap::new(), EMPTY_HASH.to_owned())?)
}

fn replace(store: &Store, declared: Declared, hash: String) -> anyhow::Result<()> {
    let hash = if declared.entities.is_empty() {
        EMPTY_HASH.to_owned()
    } else {
        hash
    };
    let rows = declared.entities.into_iter();
    let rows = rows.map(|(name, rows)| (name.to_owned(), rows)).collect();
    Ok(store.replace(rows, hash)?)
}

/// Does what the command says; `say` tells the user.
///
/// # Errors
/// When the file or the database cannot be used, or the configuration is wrong.
pub(crate) fn command(
    config: &Config,
    plugins: &[PluginDef],
    what: &Declarative,
    say: &mut dyn FnMut(&str),
) -> anyhow::Result<()> {
    let checker = Checker::new(config, plugins);
    match what {
        Declarative::Parse(file) => {
            checker.file(file)?;
            say("parse successful");
        }
        Declarative::Import(file) => {
            if config.database == Database::Off {
                bail!(
                    "'silverback config db_import' only works with a database.\n\
                     When using database=off, reload your declarative configuration\n\
                     using the /config endpoint."
                );
            }
            let declared = checker.file(file)?;
            say("parse successful, beginning import");
            import(config, plugins, &checker.format, &declared)?;
            say("import successful");
        }
        Declarative::Export(file) => {
            if config.database == Database::Off {
                bail!("'silverback config db_export' only works with a database.");
            }
            export(config, plugins, &checker.format, file)?;
        }
    }
    Ok(())
}

/// Writes the example.
///
/// # Errors
/// When there is a file of that name, or it cannot be written.
pub(crate) fn init(file: &Path) -> anyhow::Result<()> {
    if file.exists() {
        bail!("{} already exists.\nWill not overwrite it.", file.display());
    }
    fs::write(file, EXAMPLE).with_context(|| file.display().to_string())
}

/// Reads files as this node would serve them.
struct Checker<'a> {
    format: Format,
    plugins: &'a [PluginDef],
    routable: silverback_admin::RowCheck,
    has_database: bool,
}

impl<'a> Checker<'a> {
    fn new(config: &Config, plugins: &'a [PluginDef]) -> Self {
        Checker {
            format: Format::new(entities(plugins), plugins),
            plugins,
            routable: routable(flavor(config)),
            has_database: config.database != Database::Off,
        }
    }

    fn parse(&self, text: &[u8], source: Source<'_>) -> anyhow::Result<Declared> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        let accept = |entity: &str, row: &Row| self.accept(entity, row);
        Ok(self
            .format
            .parse(text, source, i64::try_from(now)?, &accept)?)
    }

    fn file(&self, path: &Path) -> anyhow::Result<Declared> {
        let name = path.display().to_string();
        let text = fs::read(path).map_err(|e| anyhow!("Failed parsing:\n{name}: {e}"))?;
        let parsed = self.parse(&text, Source::File(&name));
        parsed.map_err(|e| anyhow!("Failed parsing:\n{e}"))
    }

    fn accept(&self, entity: &str, row: &Row) -> Result<(), Violations> {
        match entity {
            "routes" => (self.routable)(row),
            "plugins" => {
                let name = row.get("name").and_then(|v| v.as_str());
                let plugin = self.plugins.iter().find(|p| Some(p.name) == name);
                plugin.map_or(Ok(()), |p| {
                    silverback_admin::plugin_compiles(p, row, self.has_database)
                })
            }
            _ => Ok(()),
        }
    }
}

fn import(
    config: &Config,
    plugins: &[PluginDef],
    format: &Format,
    declared: &Declared,
) -> anyhow::Result<()> {
    let find = |name: &str| format.entities().find(|d| d.name == name);
    let rows: Vec<(&EntityDef, &[Row])> = declared
        .entities
        .iter()
        .filter_map(|(name, rows)| Some((find(name)?, rows.as_slice())))
        .collect();
    let total: usize = rows.iter().map(|(_, rows)| rows.len()).sum();
    // Drawn on standard error, and only if that is a terminal.
    let bar = ProgressBar::new(u64::try_from(total)?);
    if let Ok(style) =
        ProgressStyle::with_template("{bar:40} {pos}/{len} rows, {elapsed}, {eta} left")
    {
        bar.set_style(style);
    }
    let done = with_store(config, plugins, async |store| {
        let moved = |n: usize| bar.set_position(n as u64);
        store
            .import(&rows, moved)
            .await
            .map_err(|e| anyhow!("Failed importing:\n{}", kongs_words(&e)))
    });
    bar.finish_and_clear();
    done.map(drop)
}

/// Violations in the words of the Admin API.
fn kongs_words(e: &StoreError) -> String {
    silverback_admin::error_message(e.clone()).unwrap_or_else(|| e.to_string())
}

fn export(
    config: &Config,
    plugins: &[PluginDef],
    format: &Format,
    file: &Path,
) -> anyhow::Result<()> {
    if file.exists() {
        bail!("{} already exists. Will not overwrite it.", file.display());
    }
    let defs: Vec<&EntityDef> = format.exported().collect();
    with_store(config, plugins, async |store| {
        // It holds secrets.
        let opened = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(file);
        let mut out = opened.with_context(|| file.display().to_string())?;
        let mut writer = Writer::new();
        let mut written = store
            .export(&defs, |def, row| {
                writer.row(def, row);
                if writer.len() >= PIECE {
                    out.write_all(writer.take().as_bytes())?;
                }
                Ok::<_, anyhow::Error>(())
            })
            .await;
        if written.is_ok() {
            written = out
                .write_all(writer.take().as_bytes())
                .and_then(|()| out.sync_all())
                .map_err(Into::into);
        }
        if written.is_err() {
            // Half of an export would be taken for a whole one.
            let _ = fs::remove_file(file);
        }
        written
    })
}

/// Runs something with a database that is ready.
fn with_store<T>(
    config: &Config,
    plugins: &[PluginDef],
    work: impl AsyncFnOnce(&Store) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let pg = pg::settings(config)?;
    runtime.block_on(async {
        if pg::ready_for_start(&pg).await?.is_none() {
            bail!("Postgres is out of reach");
        }
        let store = Store::new(pg, entities(plugins))?;
        store.keep_history(config.history_size);
        work(&store.acting_as(ACTOR)).await
    })
}
