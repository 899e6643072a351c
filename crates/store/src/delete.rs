//! What a delete takes with it.
//!
//! The tables' own `on delete` rules would do it, but without a trace in the change log. So the rows that follow are named: first every
//! row that others may hang on is locked, level by level, each with a fresh view, so that nobody can hang a new row on it; then
//! one statement removes them all and answers what it removed.

use std::sync::Arc;

use silverback_schema::OnDelete;

use crate::document;
use crate::sql::{literal, quote};
use crate::table::Table;

/// The statements of one delete; `$1` of each is the key's value.
#[derive(Debug, Clone)]
pub(crate) struct DeletePlan {
    /// In order, before `delete`.
    pub(crate) locks: Vec<Arc<str>>,
    /// Answers the change of every row that vanished or changed; none when the row is not there.
    pub(crate) delete: Arc<str>,
}

impl DeletePlan {
    /// One for each field that a key may name.
    pub(crate) fn all(table: &Table, tables: &[Table]) -> Vec<(&'static str, DeletePlan)> {
        std::iter::once("id")
            .chain(table.def.unique_fields())
            .filter(|f| table.column(f).is_some())
            .map(|f| (f, DeletePlan::new(table, f, tables)))
            .collect()
    }

    fn new<'a>(root: &'a Table, field: &str, tables: &'a [Table]) -> Self {
        let mut b = Builder {
            tables,
            locks: Vec::new(),
            parts: Vec::new(),
            path: vec![root.name],
        };
        let condition = format!(
            "{} = $1 and {}",
            quote(root.column(field).map_or(field, |c| &c.name)),
            root.alive
        );
        b.level(root, &condition);
        b.parts.push(Part {
            table: root,
            gone: true,
            sql: format!("delete from {} where {condition}", quote(root.name)),
        });
        let ctes = b
            .parts
            .iter()
            .enumerate()
            .map(|(i, p)| {
                let doc = document::of_row(p.table.name, &p.table.columns, p.table.def.ttl);
                format!("c{i} as ({} returning id, {doc} as doc)", p.sql)
            })
            .collect::<Vec<_>>()
            .join(", ");
        let rows = b
            .parts
            .iter()
            .enumerate()
            .map(|(i, p)| {
                // What a row was before its reference was emptied is its document with that reference: nobody needs it so far.
                let (op, docs) = match p.gone {
                    true => ("delete", "doc, null::jsonb"),
                    false => ("update", "null::jsonb, doc"),
                };
                format!(
                    "select {}, id, '{op}', {docs} from c{i}",
                    literal(p.table.name)
                )
            })
            .collect::<Vec<_>>()
            .join(" union all ");
        DeletePlan {
            locks: b.locks,
            delete: format!("with {ctes} {rows}").into(),
        }
    }
}

/// One of the statements that the last one is made of.
struct Part<'a> {
    table: &'a Table,
    /// Whether its rows vanish; else they lose a reference.
    gone: bool,
    sql: String,
}

struct Builder<'a> {
    tables: &'a [Table],
    locks: Vec<Arc<str>>,
    parts: Vec<Part<'a>>,
    /// Entities above, against going round in circles.
    path: Vec<&'static str>,
}

impl<'a> Builder<'a> {
    /// The rows of `table` that satisfy `condition` go: their followers first.
    fn level(&mut self, table: &Table, condition: &str) {
        let tables = self.tables;
        let followers: Vec<_> = tables
            .iter()
            .flat_map(|t| t.foreigns.iter().map(move |f| (t, f)))
            .filter(|(t, f)| {
                f.to == table.name && f.on_delete.is_some() && !self.path.contains(&t.name)
            })
            .collect();
        if followers.is_empty() {
            return;
        }
        let rows = format!("select id from {} where {condition}", quote(table.name));
        self.locks.push(format!("{rows} for update").into());
        for (child, foreign) in followers {
            let column = quote(&format!("{}_id", foreign.field));
            let below = format!("{column} in ({rows})");
            if foreign.on_delete == Some(OnDelete::Null) {
                let sql = format!(
                    "update {} set {column} = null where {below}",
                    quote(child.name)
                );
                self.parts.push(Part {
                    table: child,
                    gone: false,
                    sql,
                });
                continue;
            }
            self.path.push(child.name);
            self.level(child, &below);
            self.path.pop();
            self.parts.push(Part {
                table: child,
                gone: true,
                sql: format!("delete from {} where {below}", quote(child.name)),
            });
        }
    }
}
