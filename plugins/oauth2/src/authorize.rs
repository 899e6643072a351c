//! `POST /oauth2/authorize`: the page where users say what they allow asks here for the address to send them back to (`authorize` in
//! `kong/plugins/oauth2/access.lua`).

use http::StatusCode;
use serde_json::{Map, Value, json};
use silverback_plugin::{AccessCtx, PluginError, Response, Rows};
use uuid::Uuid;

use crate::answer::{self, Members, Refusal};
use crate::client::{Client, same};
use crate::code::CODES;
use crate::parameters::Parameters;
use crate::{OAuth2, failed, pkce};

/// Seconds in which a code is good.
const CODE_TTL: i64 = 300;

impl OAuth2 {
    /// Answers the endpoint.
    pub(crate) async fn authorize(
        &self,
        ctx: &mut AccessCtx<'_>,
        rows: &dyn Rows,
    ) -> Result<Response, PluginError> {
        let parameters = Parameters::read(ctx).await;
        let state = parameters.text("state").map(|s| s.into_owned());
        let with_state = |mut members: Members| {
            if let Some(state) = &state {
                members.insert("state".to_owned(), state.as_str().into());
            }
            members
        };
        // Whoever cannot be believed is not sent anywhere.
        if let Err(refusal) = self.is_believed(ctx, &parameters) {
            let members = with_state(refusal.members());
            return Ok(answer::response(StatusCode::BAD_REQUEST, members));
        }
        let client = match parameters.text("client_id") {
            Some(id) => Client::find(ctx, rows, &id).await?,
            None => None,
        };
        let given = parameters.text("redirect_uri");
        let client = client.filter(|c| c.redirect_uris.is_some());
        let back = client.as_ref().map(|c| c.redirect_uri(given.as_deref()));
        let back_to = match back {
            Some(Ok(uri) | Err(Some(uri))) => Some(uri),
            Some(Err(None)) | None => None,
        };
        let implicit = parameters.text("response_type").as_deref() == Some("token");
        let done = match self.examined(&parameters, client.as_ref(), back.as_ref()) {
            Ok((client, request)) if implicit => {
                let userid = request.userid;
                let members = self
                    .new_token(ctx, rows, client.id, Some(userid), request.scope, false)
                    .await?;
                Ok(members)
            }
            Ok((client, request)) => Ok(self.new_code(ctx, rows, client.id, request).await?),
            Err(refusal) => Err(refusal),
        };
        let (status, in_fragment, members) = match done {
            Ok(members) => (StatusCode::OK, implicit, members),
            Err(refusal) => (StatusCode::BAD_REQUEST, false, refusal.members()),
        };
        let members = with_state(members);
        let members = match back_to {
            None => members,
            Some(uri) => {
                let uri = address(uri, &members, in_fragment);
                Members::from_iter([("redirect_uri".to_owned(), uri.into())])
            }
        };
        Ok(answer::response(status, members))
    }

    /// Whether the request comes from the page that it should come from.
    fn is_believed(&self, ctx: &AccessCtx<'_>, parameters: &Parameters) -> Result<(), Refusal> {
        self.is_secure(ctx)?;
        if !self.has_provision_key(parameters) {
            return Err(Refusal::new(
                "invalid_provision_key",
                "Invalid provision_key",
            ));
        }
        if parameters.word("authenticated_userid").is_none() {
            return Err(Refusal::new(
                "invalid_authenticated_userid",
                "Missing authenticated_userid parameter",
            ));
        }
        Ok(())
    }

    /// Of several things that are wrong the last one is told, as in Kong.
    fn examined<'c>(
        &self,
        parameters: &Parameters,
        client: Option<&'c Client>,
        back: Option<&Result<&str, Option<&str>>>,
    ) -> Result<(&'c Client, Wanted), Refusal> {
        let challenge = pkce::challenge(parameters)?;
        let client = client.ok_or_else(Refusal::client);
        if let Ok(client) = &client
            && challenge.is_none()
            && self.pkce.is_demanded_of(client)
        {
            let text = format!("code_challenge is required for {} clients", client.kind());
            return Err(Refusal::request(text));
        }
        let client = client?;
        if matches!(back, Some(Err(_))) {
            return Err(Refusal::request(
                "Invalid redirect_uri that does not match with any redirect_uri created with the application",
            ));
        }
        let scope = self.scope(parameters)?;
        let known = match parameters.text("response_type").as_deref() {
            Some("code") => self.grants.code,
            Some("token") => self.grants.implicit,
            _ => false,
        };
        if !known {
            return Err(Refusal::new(
                "unsupported_response_type",
                "Invalid response_type",
            ));
        }
        let userid = parameters.text("authenticated_userid");
        let wanted = Wanted {
            userid: userid.unwrap_or_default().into_owned(),
            scope,
            challenge,
        };
        Ok((client, wanted))
    }

    async fn new_code(
        &self,
        ctx: &mut AccessCtx<'_>,
        rows: &dyn Rows,
        client: Uuid,
        wanted: Wanted,
    ) -> Result<Members, PluginError> {
        let method = wanted.challenge.as_ref().map(|_| "S256");
        let row = json!({
            "service": self.service(ctx)?.map(|id| json!({ "id": id })),
            "credential": { "id": client },
            "authenticated_userid": wanted.userid,
            "scope": wanted.scope,
            "challenge": wanted.challenge,
            "challenge_method": method,
            "plugin": { "id": self.id },
            "ttl": CODE_TTL,
        });
        let row = row.as_object().cloned().unwrap_or_default();
        let mut made = rows.insert(CODES, row).await.map_err(failed)?;
        let code = made.remove("code").unwrap_or(Value::Null);
        Ok(Map::from_iter([("code".to_owned(), code)]))
    }

    /// Whether the request has the key of the page with which users say what they allow.
    pub(crate) fn has_provision_key(&self, parameters: &Parameters) -> bool {
        let given = parameters.text("provision_key");
        given.is_some_and(|key| same(&key, &self.provision_key))
    }
}

/// What is asked for.
struct Wanted {
    userid: String,
    scope: Option<String>,
    challenge: Option<String>,
}

/// An address with more arguments, in its query or its fragment.
fn address(uri: &str, members: &Members, in_fragment: bool) -> String {
    let (uri, fragment) = match uri.split_once('#') {
        Some((uri, fragment)) => (uri, Some(fragment)),
        None => (uri, None),
    };
    let (path, query) = match uri.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (uri, None),
    };
    let (query, fragment) = if in_fragment {
        let fragment = answer::arguments(fragment.unwrap_or_default(), members);
        (query.map(str::to_owned), Some(fragment))
    } else {
        let query = answer::arguments(query.unwrap_or_default(), members);
        (Some(query), fragment.map(str::to_owned))
    };
    let mut out = path.to_owned();
    for (sign, part) in [('?', query), ('#', fragment)] {
        if let Some(part) = part {
            out.push(sign);
            out.push_str(&part);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_keep_what_they_have() {
        let members = Members::from_iter([("code".to_owned(), "x".into())]);
        for (uri, in_fragment, address) in [
            ("https://a.test", false, "https://a.test?code=x"),
            (
                "https://a.test/cb?b=1",
                false,
                "https://a.test/cb?b=1&code=x",
            ),
            (
                "https://a.test/cb?b=1",
                true,
                "https://a.test/cb?b=1#code=x",
            ),
            ("app://cb", true, "app://cb#code=x"),
        ] {
            assert_eq!(super::address(uri, &members, in_fragment), address);
        }
    }
}
