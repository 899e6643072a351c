//! What a delete takes with it.
//!
//! The tables' own `on delete` rules would do it, but without a trace in the change log. So the rows that follow are named: first every
//! row that others may hang on is locked, level by level, each with a fresh view, so that nobody can hang a new row on it; then
//! one statement removes them all and answers what it removed.

use std::sync::Arc;

use silverback_schema::OnDelete;

use crate::sql::{literal, quote};
use crate::table::Table;

/// The statements of one delete; `$1` of each is the key's value.
#[derive(Debug, Clone)]
pub(crate) struct DeletePlan {
    /// In order, before `delete`.
    pub(crate) locks: Vec<Arc<str>>,
    /// Answers (entity, id, operation) of every row that vanished or changed; none when the row is not there.
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

    fn new(root: &Table, field: &str, tables: &[Table]) -> Self {
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
        b.parts.push((
            root.name,
            "delete",
            format!("delete from {} where {condition}", quote(root.name)),
        ));
        let ctes = b
            .parts
            .iter()
            .enumerate()
            .map(|(i, (_, _, sql))| format!("c{i} as ({sql} returning id)"))
            .collect::<Vec<_>>()
            .join(", ");
        let rows = b
            .parts
            .iter()
            .enumerate()
            .map(|(i, (entity, op, _))| {
                format!("select {}, id, {} from c{i}", literal(entity), literal(op))
            })
            .collect::<Vec<_>>()
            .join(" union all ");
        DeletePlan {
            locks: b.locks,
            delete: format!("with {ctes} {rows}").into(),
        }
    }
}

struct Builder<'a> {
    tables: &'a [Table],
    locks: Vec<Arc<str>>,
    parts: Vec<(&'static str, &'static str, String)>,
    /// Entities above, against going round in circles.
    path: Vec<&'static str>,
}

impl Builder<'_> {
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
                self.parts.push((child.name, "update", sql));
                continue;
            }
            self.path.push(child.name);
            self.level(child, &below);
            self.path.pop();
            self.parts.push((
                child.name,
                "delete",
                format!("delete from {} where {below}", quote(child.name)),
            ));
        }
    }
}
