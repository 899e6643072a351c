//! `/tags` and `/tags/{tag}` (`kong/api/routes/tags.lua`, `kong/db/dao/tags.lua`). Tags are part of rows: here they can only be read.

use http::Method;
use serde_json::{Map, Value};
use silverback_schema::{Violations, checks};
use silverback_store::Page;

use crate::crud::Call;
use crate::crud::listed;
use crate::errors::{Answer, ApiError};
use crate::{respond, texts};

/// All tags of all rows.
pub(crate) async fn all(call: Call<'_>) -> Answer {
    page(call, None).await
}

/// The rows that carry a tag.
pub(crate) async fn one(call: Call<'_>) -> Answer {
    let tag = Value::from(call.segment(1)?);
    checks::tag(&tag).map_err(|why| ApiError::invalid_unique("tag", &why))?;
    page(call, tag.as_str()).await
}

async fn page(call: Call<'_>, tag: Option<&str>) -> Answer {
    if !matches!(*call.method, Method::GET | Method::HEAD) {
        return Err(Violations::field("tags", texts::TAGS_READ_ONLY).into());
    }
    let size = call.args.size()?;
    let Page { rows, next } = call
        .app
        .store
        .tags(tag, size, call.args.get("offset"))
        .await?;
    let rows = rows
        .into_iter()
        .map(|t| {
            Map::from_iter([
                ("entity_name".to_owned(), Value::from(t.entity_name)),
                ("entity_id".to_owned(), Value::from(t.entity_id.to_string())),
                ("tag".to_owned(), Value::from(t.tag)),
            ])
        })
        .collect();
    let path = format!("/{}", call.path);
    Ok(respond::ok(&listed(rows, next, |offset| {
        call.args.next(&path, offset, tag.is_some())
    })))
}
