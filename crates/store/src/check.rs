//! Whether the tables are what the entity definitions say.

use std::collections::{HashMap, HashSet};

use silverback_schema::OnDelete;

use crate::cell::Cell;
use crate::table::ColumnType;
use crate::{Store, StoreError};

impl Store {
    /// Compares the tables with the entities the store was told about; answers a line for each difference.
    ///
    /// # Errors
    /// `Unavailable`, `Internal`.
    pub async fn check_schema(&self) -> Result<Vec<String>, StoreError> {
        let mut out = Vec::new();
        for table in &self.tables().list {
            let name = table.name;
            let columns = "select column_name::text, udt_name::text, is_nullable::text from information_schema.columns \
                 where table_schema = current_schema() and table_name = $1";
            let mut there: HashMap<String, (String, bool)> = HashMap::new();
            for r in self
                .pool()
                .query(columns, &[Cell::Text(name.into())])
                .await?
            {
                there.insert(
                    r.try_get(0)?,
                    (r.try_get(1)?, r.try_get::<_, &str>(2)? == "YES"),
                );
            }
            let mut wanted: Vec<(&str, &str, bool)> = table
                .columns
                .iter()
                .map(|c| {
                    (
                        c.name.as_str(),
                        udt(c.ty),
                        table.def.field(c.field).is_some_and(|f| f.is_required()),
                    )
                })
                .collect();
            if table.def.ttl {
                wanted.push(("expires_at", "timestamptz", false));
            }
            for (column, ty, required) in wanted {
                match there.remove(column) {
                    None => out.push(format!("{name}.{column} is not there")),
                    Some((t, _)) if t != ty => {
                        out.push(format!("{name}.{column} is {t} and not {ty}"))
                    }
                    Some((_, nullable)) if required && nullable && column != "config" => {
                        out.push(format!("{name}.{column} may be null"));
                    }
                    Some(_) => {}
                }
            }
            out.extend(
                there
                    .into_iter()
                    .filter(|(_, (_, null))| !null)
                    .map(|(column, _)| {
                        format!("{name}.{column} belongs to no field and may not be null")
                    }),
            );

            let indexes = "select i.relname::text from pg_index x join pg_class i on i.oid = x.indexrelid \
                 where x.indrelid = to_regclass(quote_ident($1)) and x.indisunique";
            let rows = self
                .pool()
                .query(indexes, &[Cell::Text(name.into())])
                .await?;
            let mut unique = rows
                .iter()
                .map(|r| r.try_get(0))
                .collect::<Result<HashSet<String>, _>>()?;
            for (constraint, _) in table.uniques() {
                if !unique.remove(constraint) {
                    out.push(format!("{name} has no unique index {constraint}"));
                }
            }
            out.extend(
                unique
                    .into_iter()
                    .map(|i| format!("{name} has a unique index {i} of no field")),
            );

            let keys = "select conname::text, confdeltype::text, confrelid::regclass::text from pg_constraint \
                 where conrelid = to_regclass(quote_ident($1)) and contype = 'f'";
            let mut foreign: HashMap<String, (String, String)> = HashMap::new();
            for r in self.pool().query(keys, &[Cell::Text(name.into())]).await? {
                foreign.insert(r.try_get(0)?, (r.try_get(1)?, r.try_get(2)?));
            }
            for f in table.foreigns.iter().filter(|f| f.known) {
                let rule = match f.on_delete {
                    None => "r",
                    Some(OnDelete::Cascade) => "c",
                    Some(OnDelete::Null) => "n",
                };
                match foreign.remove(&f.constraint) {
                    None => out.push(format!("{name} has no foreign key {}", f.constraint)),
                    Some((r, to)) if r != rule || to != f.to => {
                        out.push(format!(
                            "{} points at {to} with rule {r} and not at {} with {rule}",
                            f.constraint, f.to
                        ));
                    }
                    Some(_) => {}
                }
            }
        }
        Ok(out)
    }
}

fn udt(ty: ColumnType) -> &'static str {
    match ty {
        ColumnType::Uuid | ColumnType::Ref => "uuid",
        ColumnType::Text => "text",
        ColumnType::Int => "int8",
        ColumnType::Float => "float8",
        ColumnType::Bool => "bool",
        ColumnType::Seconds | ColumnType::Fraction => "timestamptz",
        ColumnType::Json => "jsonb",
        ColumnType::Texts => "_text",
    }
}
