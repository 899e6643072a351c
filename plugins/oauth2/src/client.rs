//! Applications, as the endpoints see them.

use openssl::memcmp;
use serde_json::{Map, Value, json};
use silverback_plugin::{AccessCtx, PluginError, Rows};
use uuid::Uuid;

use crate::application::APPLICATIONS;
use crate::secret;

/// An application.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    pub(crate) id: Uuid,
    pub(crate) redirect_uris: Option<Vec<String>>,
    pub(crate) is_public: bool,
    secret: Option<String>,
    is_hashed: bool,
}

impl Client {
    /// The application of that name: from memory, or from the database when it has just been made.
    pub(crate) async fn find(
        ctx: &mut AccessCtx<'_>,
        rows: &dyn Rows,
        client_id: &str,
    ) -> Result<Option<Self>, PluginError> {
        if client_id.is_empty() {
            return Ok(None);
        }
        if let Some(known) = ctx.directory.credential(APPLICATIONS, client_id) {
            return Ok(Some(Self::of(known.id, &known.extra)));
        }
        let row = rows.find(APPLICATIONS, "client_id", client_id).await;
        let row = row.map_err(|e| PluginError::new(e.to_string()))?;
        Ok(row.and_then(|row| {
            let id = row.get("id")?.as_str()?.parse().ok()?;
            Some(Self::of(id, &row))
        }))
    }

    fn of(id: Uuid, fields: &Map<String, Value>) -> Self {
        let text = |name: &str| fields.get(name).and_then(Value::as_str);
        let uris = fields.get("redirect_uris").and_then(Value::as_array);
        let uris = uris.map(|uris| uris.iter().filter_map(Value::as_str).map(Into::into));
        Client {
            id,
            redirect_uris: uris.map(Iterator::collect),
            is_public: text("client_type") == Some("public"),
            secret: text("client_secret").map(Into::into),
            is_hashed: fields.get("hash_secret") == Some(&Value::Bool(true)),
        }
    }

    /// The word for what it is.
    pub(crate) fn kind(&self) -> &'static str {
        if self.is_public {
            "public"
        } else {
            "confidential"
        }
    }

    /// Whether that is its secret. A hash is compared apart from the threads that serve requests: it takes milliseconds, as it should.
    pub(crate) async fn has_secret(
        &self,
        given: &str,
        rows: &dyn Rows,
    ) -> Result<bool, PluginError> {
        let Some(kept) = &self.secret else {
            return Ok(false);
        };
        if !self.is_hashed {
            return Ok(same(kept, given));
        }
        let (hash, text) = (kept.clone(), given.to_owned());
        let verified = tokio::task::spawn_blocking(move || secret::verify(&text, &hash)).await;
        let verified = verified.map_err(|e| PluginError::new(e.to_string()))?;
        if verified && secret::is_outdated(kept) {
            // With the secret at hand it can be hashed as secrets are hashed today.
            let change = json!({ "client_secret": given, "hash_secret": true });
            let change = change.as_object().cloned().unwrap_or_default();
            if let Err(e) = rows.update(APPLICATIONS, self.id, change).await {
                tracing::warn!("the hash of an application's secret stays as it is: {e}");
            }
        }
        Ok(verified)
    }

    /// The address that a user is sent back to: the given one, or the first. `Err` with the first when the given one is not the
    /// application's.
    pub(crate) fn redirect_uri<'a>(
        &'a self,
        given: Option<&'a str>,
    ) -> Result<&'a str, Option<&'a str>> {
        let known = self.redirect_uris.as_deref().unwrap_or_default();
        let first = known.first().map(String::as_str);
        let wanted = given.or(first);
        wanted.filter(|w| known.iter().any(|k| k == w)).ok_or(first)
    }
}

/// Whether two secrets are the same; how long it takes says nothing but their lengths.
pub(crate) fn same(a: &str, b: &str) -> bool {
    a.len() == b.len() && memcmp::eq(a.as_bytes(), b.as_bytes())
}
