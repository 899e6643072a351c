//! Rows as logs show them: as the Admin API does, without what is null, and with the workspace that Kong would name.

use std::sync::OnceLock;

use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;
use silverback_plugin::facts::WORKSPACE_ID;

/// A row's text, made when it is first asked for.
#[derive(Default)]
pub(crate) struct Text(OnceLock<Option<Box<RawValue>>>);

impl Text {
    pub(crate) fn of(&self, row: &impl Serialize) -> Option<&RawValue> {
        let text = self.0.get_or_init(|| text(row, true));
        text.as_deref()
    }
}

/// The text of a row.
pub(crate) fn text(row: &impl Serialize, in_workspace: bool) -> Option<Box<RawValue>> {
    let Ok(Value::Object(mut row)) = serde_json::to_value(row) else {
        return None;
    };
    row.retain(|_, v| !v.is_null());
    if in_workspace {
        row.insert("ws_id".to_owned(), WORKSPACE_ID.into());
    }
    serde_json::value::to_raw_value(&row).ok()
}
