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

/// The last statement of every transaction that writes: takes the next revisions (its row lock makes commit order = revision order),
/// one for each write, says under them what changed and wakes the nodes. `$1` the number of writes; then for each change, `$2` which of
/// them made it (from 1), `$3` its entity, `$4` id, `$5` operation, `$6` who, `$7` the row before and `$8` after it. Answers the last
/// revision.
pub(crate) const LOG: &str = "with bumped as (update config_revision set revision = revision + $1::bigint returning revision), \
     logged as (insert into config_changes (revision, entity, entity_id, op, actor, before, after) \
       select bumped.revision - $1::bigint + c.nth, c.entity, c.id, c.op, c.actor, c.before, c.after \
       from bumped, unnest($2::bigint[], $3::text[], $4::uuid[], $5::text[], $6::text[], $7::jsonb[], $8::jsonb[]) \
         as c (nth, entity, id, op, actor, before, after)) \
     select revision, pg_notify('silverback_config', revision::text)::text from bumped";

/// [`LOG`] together with what is logged: a statement that inserts one row of an entity and takes so many parameters. Who and the document
/// come after those; the revision is answered after the columns of the row.
///
/// The revision is taken after the row is there, as in every transaction: in another order two could wait for each other.
pub(crate) fn logged_insert(insert: &str, entity: &str, parameters: usize) -> String {
    let (actor, document) = (parameters + 1, parameters + 2);
    let entity = literal(entity);
    format!(
        "with written as ({insert}), \
         bumped as (update config_revision set revision = revision + 1 where exists (select from written) returning revision), \
         logged as (insert into config_changes (revision, entity, entity_id, op, actor, after) \
           select bumped.revision, {entity}, written.id, 'insert', ${actor}::text, ${document}::jsonb from bumped, written) \
         select written.*, bumped.revision, pg_notify('{CHANNEL}', bumped.revision::text)::text from written, bumped"
    )
}
