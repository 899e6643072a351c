//! Small pieces of SQL text.

/// An identifier in quotes.
pub(crate) fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A text literal in quotes; only for names from the entity definitions.
pub(crate) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// A name of a constraint as Postgres cuts it.
pub(crate) fn constraint(parts: &[&str]) -> String {
    let mut name = parts.join("_");
    name.truncate(63);
    name
}

/// The channel nodes listen on.
pub(crate) const CHANNEL: &str = "silverback_config";

/// The last statement of every transaction that writes: takes the next revision (its row lock makes commit order = revision order),
/// says under it what changed and wakes the nodes. `$1` entities, `$2` ids, `$3` operations. Answers the revision.
pub(crate) const LOG: &str = "with bumped as (update config_revision set revision = revision + 1 returning revision), \
     logged as (insert into config_changes (revision, entity, entity_id, op) \
       select bumped.revision, c.entity, c.id, c.op from bumped, unnest($1::text[], $2::uuid[], $3::text[]) as c (entity, id, op)) \
     select revision, pg_notify('silverback_config', revision::text)::text from bumped";
