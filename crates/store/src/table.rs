//! An entity as a table: its columns, its constraints' names and the SQL text made from them, once.

use std::collections::HashMap;
use std::sync::Arc;

use silverback_schema::{EntityDef, Field, Kind, OnDelete};

use crate::StoreError;
use crate::delete::DeletePlan;
use crate::document;
use crate::sql::{constraint, literal, logged_insert, quote};

/// How a field is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ColumnType {
    /// `uuid`
    Uuid,
    /// `text`
    Text,
    /// `bigint`
    Int,
    /// `double precision`
    Float,
    /// `boolean`
    Bool,
    /// `timestamptz`, shown as whole seconds
    Seconds,
    /// `timestamptz`, shown with the fraction
    Fraction,
    /// `jsonb`
    Json,
    /// `text[]`, for tags: a GIN index answers "has all of" and "has one of"
    Texts,
    /// `uuid`, shown as `{"id": ..}`
    Ref,
}

impl ColumnType {
    fn of(name: &str, field: &Field) -> Self {
        match &field.kind {
            Kind::Foreign(_) => ColumnType::Ref,
            Kind::Integer if field.timestamp => ColumnType::Seconds,
            Kind::Number if field.timestamp => ColumnType::Fraction,
            Kind::String if field.uuid => ColumnType::Uuid,
            Kind::String => ColumnType::Text,
            Kind::Integer => ColumnType::Int,
            Kind::Number => ColumnType::Float,
            Kind::Boolean => ColumnType::Bool,
            Kind::Set(_) if name == "tags" => ColumnType::Texts,
            Kind::Array(_) | Kind::Set(_) | Kind::Map { .. } | Kind::Record(_) | Kind::Abstract => {
                ColumnType::Json
            }
        }
    }
}

/// A field and its column.
#[derive(Debug, Clone)]
pub(crate) struct Column {
    /// The field's name.
    pub(crate) field: &'static str,
    /// The column's name.
    pub(crate) name: String,
    /// Its type.
    pub(crate) ty: ColumnType,
    /// Filled by the server when the row has null.
    pub(crate) auto: bool,
}

/// A reference to another table.
#[derive(Debug, Clone)]
pub(crate) struct Foreign {
    /// The constraint's name.
    pub(crate) constraint: String,
    /// The field.
    pub(crate) field: &'static str,
    /// The entity pointed at.
    pub(crate) to: &'static str,
    /// What happens to this row when that one goes.
    pub(crate) on_delete: Option<OnDelete>,
    /// Whether that entity has a table; without one every reference points at nothing.
    pub(crate) known: bool,
}

/// One entity.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) name: &'static str,
    pub(crate) def: EntityDef,
    /// One for each field that is stored, in its order.
    pub(crate) columns: Vec<Column>,
    pub(crate) foreigns: Vec<Foreign>,
    /// Constraint and fields, the primary key's among them.
    uniques: Vec<(String, Vec<&'static str>)>,
    /// `<columns>` of a row; for entities that expire `ttl` comes after the fields.
    pub(crate) row: String,
    /// The same with the moment of expiry, in seconds since 1970, in place of `ttl`.
    pub(crate) row_until: String,
    /// Only rows that have not expired: `true` for entities that do not.
    pub(crate) alive: &'static str,
    pub(crate) insert: Arc<str>,
    /// The same with the log of it. After the columns come who and the document.
    pub(crate) insert_alone: Arc<str>,
    /// `$1` is the id, then all columns but it.
    pub(crate) update: Arc<str>,
    /// By primary key.
    pub(crate) upsert: Arc<str>,
    /// Deletes what has expired; answers the change without documents.
    pub(crate) purge: Option<Arc<str>>,
    /// By each field that a key may name, `id` first.
    pub(crate) deletes: Vec<(&'static str, DeletePlan)>,
}

impl Table {
    fn new(def: EntityDef, known: &[&'static str]) -> Result<Self, StoreError> {
        let name = def.name;
        let columns: Vec<Column> = def
            .record
            .fields
            .iter()
            .filter(|(_, f)| !f.transient)
            .map(|(n, f)| {
                let ty = ColumnType::of(n, f);
                let column = if ty == ColumnType::Ref {
                    format!("{n}_id")
                } else {
                    (*n).to_owned()
                };
                Column {
                    field: n,
                    name: column,
                    ty,
                    auto: f.auto,
                }
            })
            .collect();
        if columns.first().map(|c| c.field) != Some("id") {
            return Err(StoreError::Internal(format!(
                "the first field of {name} must be its id"
            )));
        }
        let foreigns = def
            .foreign_keys()
            .map(|(field, to, on_delete)| Foreign {
                constraint: constraint(&[name, field, "id_fkey"]),
                field,
                to,
                on_delete,
                known: known.contains(&to),
            })
            .collect();
        let mut uniques = vec![(constraint(&[name, "pkey"]), vec!["id"])];
        uniques.extend(
            def.unique_fields()
                .map(|f| (constraint(&[name, f, "key"]), vec![f])),
        );
        uniques.extend(def.unique_together.iter().map(|fields| {
            let mut parts = vec![name];
            parts.extend(fields);
            parts.push("key");
            (constraint(&parts), fields.clone())
        }));

        let table = quote(name);
        let mut row = columns
            .iter()
            .map(|c| quote(&c.name))
            .collect::<Vec<_>>()
            .join(", ");
        let mut names: Vec<String> = columns.iter().map(|c| quote(&c.name)).collect();
        let mut row_until = row.clone();
        if def.ttl {
            row.push_str(", floor(extract(epoch from expires_at - now()))::bigint");
            row_until.push_str(", floor(extract(epoch from expires_at))::bigint");
            names.push("expires_at".into());
        }
        let values = (1..=names.len())
            .map(|i| format!("${i}"))
            .collect::<Vec<_>>()
            .join(", ");
        let insert = format!(
            "insert into {table} ({}) values ({values}) returning {row}",
            names.join(", "),
        );
        let insert_alone = logged_insert(&insert, name, names.len());
        let insert = format!("{insert}, {}, id, 'insert'", literal(name));
        let excluded = names
            .iter()
            .skip(1)
            .map(|n| format!("{n} = excluded.{n}"))
            .collect::<Vec<_>>()
            .join(", ");
        // `xmax` is 0 in a row that was inserted and the updating transaction's number in one that was there.
        let change = document::upserted(name, &columns, def.ttl);
        let upsert = format!(
            "insert into {table} ({}) values ({values}) on conflict (id) do update set {excluded} returning {row}, {change}",
            names.join(", "),
        );
        let set = names
            .iter()
            .enumerate()
            .skip(1)
            .map(|(i, n)| match n.as_str() {
                // The ttl in a row is what was left when it was read: when it still is, the moment of expiry stays as it was. `infinity` is
                // what a row without a ttl says, and cannot be subtracted.
                "expires_at" => format!(
                    "expires_at = case when ${p}::timestamptz = 'infinity' then {table}.expires_at \
                     when abs(extract(epoch from {table}.expires_at - ${p}::timestamptz)) <= 2 then {table}.expires_at else ${p} end",
                    p = i + 1
                ),
                _ => format!("{n} = ${}", i + 1),
            })
            .collect::<Vec<_>>()
            .join(", ");
        let alive = if def.ttl {
            "(expires_at is null or expires_at > now())"
        } else {
            "true"
        };
        let update = format!(
            "update {table} set {set} where id = $1 and {alive} returning {row}, {}, id, 'update', null::jsonb, {}",
            literal(name),
            document::of_row(name, &columns, def.ttl)
        );
        let purge = def.ttl.then(|| {
            format!(
                "delete from {table} where id in (select id from {table} where expires_at <= now() \
                 limit 1000 for update skip locked) returning {}, id, 'delete', null::jsonb, null::jsonb",
                literal(name)
            )
        });
        Ok(Table {
            name,
            columns,
            foreigns,
            uniques,
            row,
            row_until,
            alive,
            insert: insert.into(),
            insert_alone: insert_alone.into(),
            update: update.into(),
            upsert: upsert.into(),
            purge: purge.map(Into::into),
            deletes: Vec::new(),
            def,
        })
    }

    /// The column of a field.
    pub(crate) fn column(&self, field: &str) -> Option<&Column> {
        self.columns.iter().find(|c| c.field == field)
    }

    /// The fields a violated constraint is about.
    pub(crate) fn unique_of(&self, constraint: &str) -> Option<&[&'static str]> {
        self.uniques
            .iter()
            .find(|(c, _)| c == constraint)
            .map(|(_, f)| f.as_slice())
    }

    /// The constraint's field and the entity it points at.
    pub(crate) fn foreign_of(&self, constraint: &str) -> Option<(&'static str, &'static str)> {
        self.foreigns
            .iter()
            .find(|f| f.constraint == constraint)
            .map(|f| (f.field, f.to))
    }

    /// The unique constraints: name and fields.
    pub(crate) fn uniques(&self) -> &[(String, Vec<&'static str>)] {
        &self.uniques
    }

    /// `insert` that replaces the row with the same value of a unique field, which keeps its id.
    pub(crate) fn upsert_by(&self, field: &str) -> Option<String> {
        let column = self
            .column(field)
            .filter(|_| self.def.field(field).is_some_and(|f| f.unique))?;
        let mut names: Vec<String> = self.columns.iter().map(|c| quote(&c.name)).collect();
        if self.def.ttl {
            names.push("expires_at".into());
        }
        let values = (1..=names.len())
            .map(|i| format!("${i}"))
            .collect::<Vec<_>>()
            .join(", ");
        let excluded = names
            .iter()
            .skip(1)
            .map(|n| format!("{n} = excluded.{n}"))
            .collect::<Vec<_>>()
            .join(", ");
        Some(format!(
            "insert into {} ({}) values ({values}) on conflict ({}) do update set {excluded} returning {}, {}",
            quote(self.name),
            names.join(", "),
            quote(&column.name),
            self.row,
            document::upserted(self.name, &self.columns, self.def.ttl),
        ))
    }

    /// Locks the row with a value of a field, so that what a replacement finds there is what it replaces; `$1` is the value.
    pub(crate) fn lock_by(&self, field: &str) -> Option<String> {
        let column = self.column(field)?;
        Some(format!(
            "select id from {} where {} = $1 for no key update",
            quote(self.name),
            quote(&column.name)
        ))
    }

    /// How many columns `row` has; the change (see [`crate::document`]) follows them in what a write answers.
    pub(crate) fn row_len(&self) -> usize {
        self.columns.len() + usize::from(self.def.ttl)
    }
}

/// All entities, in an order in which each comes after those it refers to.
#[derive(Debug)]
pub(crate) struct Tables {
    pub(crate) list: Vec<Table>,
    by_name: HashMap<&'static str, usize>,
}

impl Tables {
    pub(crate) fn new(defs: Vec<EntityDef>) -> Result<Self, StoreError> {
        let known: Vec<&'static str> = defs.iter().map(|d| d.name).collect();
        let mut list = defs
            .into_iter()
            .map(|d| Table::new(d, &known))
            .collect::<Result<Vec<_>, _>>()?;
        let by_name: HashMap<_, _> = list.iter().enumerate().map(|(i, t)| (t.name, i)).collect();
        if by_name.len() != list.len() {
            return Err(StoreError::Internal(
                "two entities have the same name".into(),
            ));
        }
        let plans: Vec<_> = list.iter().map(|t| DeletePlan::all(t, &list)).collect();
        for (t, p) in list.iter_mut().zip(plans) {
            t.deletes = p;
        }
        Ok(Tables { list, by_name })
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Table> {
        self.by_name.get(name).map(|i| &self.list[*i])
    }

    /// The table of an entity the store was told about.
    pub(crate) fn of(&self, def: &EntityDef) -> Result<&Table, StoreError> {
        self.get(def.name).ok_or_else(|| {
            StoreError::Internal(format!("the store was not told about {}", def.name))
        })
    }
}
