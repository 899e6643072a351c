//! `GET /tags`: which rows carry which tags, over all entities.

use serde_json::Value;
use uuid::Uuid;

use crate::cell::Cell;
use crate::memory::{self, Content, tags_of};
use crate::page::{id_of, parse_token, token};
use crate::sql::{literal, quote};
use crate::{Page, Store, StoreError, Tagged};

impl Store {
    /// The tags of all rows, or the rows that carry `tag`, in the order of the rows' ids.
    ///
    /// # Errors
    /// `BadOffset`, `Unavailable`, `Internal`.
    pub async fn tags(
        &self,
        tag: Option<&str>,
        size: u32,
        offset: Option<&str>,
    ) -> Result<Page<Tagged>, StoreError> {
        let after = offset.map(After::parse).transpose()?.unwrap_or_default();
        let size = size.max(1) as usize;
        if let Some(memory) = self.memory() {
            return Ok(in_memory(self, &memory.content(), tag, size, &after));
        }
        let mut values = vec![
            Cell::Uuid(after.id),
            Cell::Int(after.ordinal),
            Cell::Text(after.entity),
            Cell::Int(size as i64 + 1),
        ];
        let only = match tag {
            Some(tag) => {
                values.push(Cell::Text(tag.to_owned()));
                "tags @> array[$5::text] and"
            }
            None => "",
        };
        let which = if tag.is_some() { "t.tag = $5" } else { "true" };
        let each = self.tables().list.iter().filter(|t| t.def.has_tags()).map(|t| {
            format!(
                "select id, {}::text as entity, t.tag, t.ordinal from {}, unnest(tags) with ordinality as t (tag, ordinal) \
                 where {only} {which} and {} and id >= $1",
                literal(t.name),
                quote(t.name),
                t.alive
            )
        });
        let sql = format!(
            "select id, entity, tag, ordinal from ({}) as x where (id, ordinal, entity) > ($1::uuid, $2::bigint, $3::text) \
             order by id, ordinal, entity limit $4::bigint",
            each.collect::<Vec<_>>().join(" union all ")
        );
        let found = self.query(&sql, &values).await?;
        let mut rows = Vec::with_capacity(size);
        let mut last = None;
        for r in found.iter().take(size) {
            let (entity_id, ordinal): (Uuid, i64) = (r.try_get(0)?, r.try_get(3)?);
            let entity: &str = r.try_get(1)?;
            let Some(table) = self.tables().get(entity) else {
                continue;
            };
            last = Some((entity_id, ordinal, table.name));
            rows.push(Tagged {
                entity_name: table.name,
                entity_id,
                tag: r.try_get(2)?,
            });
        }
        let next = last
            .filter(|_| found.len() > size)
            .map(|(id, ordinal, entity)| {
                token(&[
                    Value::from(id.to_string()),
                    Value::from(ordinal),
                    Value::from(entity),
                ])
            });
        Ok(Page { rows, next })
    }
}

fn in_memory(
    store: &Store,
    content: &Content,
    tag: Option<&str>,
    size: usize,
    after: &After,
) -> Page<Tagged> {
    let mut found: Vec<(Uuid, i64, &'static str, String)> = Vec::new();
    for table in store.tables().list.iter().filter(|t| t.def.has_tags()) {
        for row in content.all(table, None) {
            let Some(id) = memory::id_of(&row) else {
                continue;
            };
            for (ordinal, t) in (1..).zip(tags_of(&row)) {
                if tag.is_none_or(|tag| tag == t) {
                    found.push((id, ordinal, table.name, t.to_owned()));
                }
            }
        }
    }
    let last = (after.id, after.ordinal, after.entity.as_str());
    found.retain(|(id, ordinal, entity, _)| (*id, *ordinal, *entity) > last);
    found.sort_unstable();
    let more = found.len() > size;
    found.truncate(size);
    let next = found
        .last()
        .filter(|_| more)
        .map(|(id, ordinal, entity, _)| {
            token(&[
                Value::from(id.to_string()),
                Value::from(*ordinal),
                Value::from(*entity),
            ])
        });
    let rows = found
        .into_iter()
        .map(|(entity_id, _, entity_name, tag)| Tagged {
            entity_name,
            entity_id,
            tag,
        });
    Page {
        rows: rows.collect(),
        next,
    }
}

/// Where the page before ended. Kong's token is the id and the tag's place among the row's tags; the entity decides between rows of
/// different entities with the same id.
#[derive(Default)]
struct After {
    id: Uuid,
    ordinal: i64,
    entity: String,
}

impl After {
    fn parse(offset: &str) -> Result<Self, StoreError> {
        let list = parse_token(offset)?;
        Ok(After {
            id: id_of(offset, &list)?,
            // Without a place the whole row is behind us.
            ordinal: list.get(1).and_then(Value::as_i64).unwrap_or(i64::MAX),
            entity: list
                .get(2)
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned(),
        })
    }
}
