//! `POST /oauth2/token`: applications get tokens here (`issue_token` and `generate_token` in `kong/plugins/oauth2/access.lua`).

use std::borrow::Cow;

use base64::Engine;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use http::{HeaderValue, StatusCode};
use rand::Rng as _;
use rand::distr::Alphanumeric;
use serde_json::{Value, json};
use silverback_plugin::{AccessCtx, PluginError, Response, Row, Rows, auth};
use uuid::Uuid;

use crate::answer::{self, Members, Refusal};
use crate::client::Client;
use crate::code::CODES;
use crate::parameters::Parameters;
use crate::token::TOKENS;
use crate::{OAuth2, failed, now, pkce};

const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The proof that an application gives of itself.
#[derive(Debug, Default)]
struct Proof {
    id: Option<String>,
    secret: Option<String>,
    in_header: bool,
}

/// Why there is no token.
enum Failure {
    Refused(Refusal),
    Broken(PluginError),
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Failure::Refused(refusal)
    }
}

impl From<PluginError> for Failure {
    fn from(e: PluginError) -> Self {
        Failure::Broken(e)
    }
}

impl OAuth2 {
    /// Answers the endpoint.
    pub(crate) async fn issue(
        &self,
        ctx: &mut AccessCtx<'_>,
        rows: &dyn Rows,
    ) -> Result<Response, PluginError> {
        let parameters = Parameters::read(ctx).await;
        let proof = self.proof(ctx, &parameters);
        let in_header = proof.in_header;
        let (status, mut members) = match self.grant(ctx, rows, &parameters, proof).await {
            Ok(members) => (StatusCode::OK, members),
            Err(Failure::Broken(e)) => return Err(e),
            Err(Failure::Refused(refusal)) => {
                let unknown = in_header && refusal == Refusal::client();
                let status = match unknown {
                    true => StatusCode::UNAUTHORIZED,
                    false => StatusCode::BAD_REQUEST,
                };
                (status, refusal.members())
            }
        };
        if let Some(state) = parameters.text("state") {
            members.insert("state".to_owned(), state.into());
        }
        let response = answer::response(status, members);
        Ok(match status {
            StatusCode::UNAUTHORIZED => {
                let challenge = HeaderValue::from_static("Basic realm=\"OAuth2.0\"");
                auth::challenged(response, &challenge)
            }
            _ => response,
        })
    }

    async fn grant(
        &self,
        ctx: &mut AccessCtx<'_>,
        rows: &dyn Rows,
        parameters: &Parameters,
        proof: Proof,
    ) -> Result<Members, Failure> {
        self.is_secure(ctx)?;
        let grant = parameters.text("grant_type");
        let grant = grant.as_deref().unwrap_or_default();
        let client = match &proof.id {
            Some(id) => Client::find(ctx, rows, id).await?,
            None => None,
        };
        if let Some(client) = &client {
            self.is_proven(client, &proof, rows).await?;
        }
        let for_itself = grant == "client_credentials";
        let client = if for_itself {
            client
        } else {
            // Those that act for users have said where users may be sent back to.
            let client = client.filter(|c| c.redirect_uris.is_some());
            let client = client.ok_or_else(Refusal::client)?;
            let given = parameters.text("redirect_uri");
            if client.redirect_uri(given.as_deref()).is_err() {
                return Err(Failure::Refused(Refusal::request(
                    "Invalid redirect_uri that does not match with any redirect_uri created with the application",
                )));
            }
            Some(client)
        };
        let unknown = || Refusal::new("unsupported_grant_type", "Invalid grant_type");
        match grant {
            "authorization_code" => {
                let client = client.ok_or_else(Refusal::client)?;
                self.by_code(ctx, rows, parameters, &client).await
            }
            "client_credentials" if self.grants.client_credentials => {
                let userid = parameters.word("authenticated_userid");
                if userid.is_some() && !self.has_provision_key(parameters) {
                    return Err(wrong_provision_key().into());
                }
                let client = client.ok_or_else(Refusal::client)?;
                let scope = self.scope(parameters)?;
                let userid = userid.map(Cow::into_owned);
                let made = self.new_token(ctx, rows, client.id, userid, scope, false);
                Ok(made.await?)
            }
            "password" if self.grants.password => {
                if !self.has_provision_key(parameters) {
                    return Err(wrong_provision_key().into());
                }
                let userid = parameters.word("authenticated_userid").ok_or_else(|| {
                    Refusal::new(
                        "invalid_authenticated_userid",
                        "Missing authenticated_userid parameter",
                    )
                })?;
                let client = client.ok_or_else(Refusal::client)?;
                let scope = self.scope(parameters)?;
                let userid = Some(userid.into_owned());
                let made = self.new_token(ctx, rows, client.id, userid, scope, true);
                Ok(made.await?)
            }
            "refresh_token" => {
                let client = client.ok_or_else(Refusal::client)?;
                self.by_refreshing(ctx, rows, parameters, &client).await
            }
            _ => Err(unknown().into()),
        }
    }

    async fn by_code(
        &self,
        ctx: &mut AccessCtx<'_>,
        rows: &dyn Rows,
        parameters: &Parameters,
        client: &Client,
    ) -> Result<Members, Failure> {
        let invalid = || Failure::Refused(Refusal::request("Invalid code"));
        let code = parameters.text("code").ok_or_else(invalid)?;
        let found = rows.find(CODES, "code", &code).await.map_err(failed)?;
        let row = found.ok_or_else(invalid)?;
        if !self.is_for_service(ctx, &row)? || reference(&row, "credential") != Some(client.id) {
            return Err(invalid());
        }
        if text(&row, "challenge_method").is_some() || self.pkce.is_demanded_of(client) {
            pkce::verify(parameters, text(&row, "challenge"))?;
        }
        let of_another = |id: Uuid| id != self.id;
        if self.global_credentials && reference(&row, "plugin").is_some_and(of_another) {
            return Err(invalid());
        }
        // It goes before the token comes: of two who show it at the same time only one gets a token.
        let id = id_of(&row).ok_or_else(invalid)?;
        if !rows.delete(CODES, id).await.map_err(failed)? {
            return Err(invalid());
        }
        let owned = |name| text(&row, name).map(str::to_owned);
        let (userid, scope) = (owned("authenticated_userid"), owned("scope"));
        let made = self.new_token(ctx, rows, client.id, userid, scope, true);
        Ok(made.await?)
    }

    async fn by_refreshing(
        &self,
        ctx: &mut AccessCtx<'_>,
        rows: &dyn Rows,
        parameters: &Parameters,
        client: &Client,
    ) -> Result<Members, Failure> {
        let invalid = || Failure::Refused(Refusal::request("Invalid refresh_token"));
        let given = parameters.text("refresh_token").ok_or_else(invalid)?;
        let found = rows.find(TOKENS, "refresh_token", &given).await;
        let old = found.map_err(failed)?.ok_or_else(invalid)?;
        if !self.is_for_service(ctx, &old)? {
            return Err(invalid());
        }
        if reference(&old, "credential") != Some(client.id) {
            return Err(Refusal::client().into());
        }
        let scope = text(&old, "scope");
        let mut words = scope.unwrap_or_default().split_whitespace();
        if words.any(|word| !self.scopes().iter().any(|s| s == word)) {
            return Err(Refusal::new("invalid_scope", "Scope mismatch").into());
        }
        let id = id_of(&old).ok_or_else(invalid)?;
        if self.reuse_refresh_token {
            let change = json!({
                "access_token": random(),
                "expires_in": self.token_expiration,
                "created_at": now(ctx.facts) as i64,
                "ttl": self.ttl(),
            });
            let change = change.as_object().cloned().unwrap_or_default();
            let changed = rows.update(TOKENS, id, change).await.map_err(failed)?;
            let changed = changed.ok_or_else(invalid)?;
            return Ok(self.told(&changed));
        }
        // As with codes.
        if !rows.delete(TOKENS, id).await.map_err(failed)? {
            return Err(invalid());
        }
        let owned = |name| text(&old, name).map(str::to_owned);
        let (userid, scope) = (owned("authenticated_userid"), owned("scope"));
        let made = self.new_token(ctx, rows, client.id, userid, scope, true);
        Ok(made.await?)
    }

    /// Gives a token out, and with `refreshable` what a new one can be had for, if it is ever needed.
    pub(crate) async fn new_token(
        &self,
        ctx: &mut AccessCtx<'_>,
        rows: &dyn Rows,
        client: Uuid,
        userid: Option<String>,
        scope: Option<String>,
        refreshable: bool,
    ) -> Result<Members, PluginError> {
        let refresh = (refreshable && self.token_expiration > 0).then(random);
        let row = json!({
            "service": self.service(ctx)?.map(|id| json!({ "id": id })),
            "credential": { "id": client },
            "authenticated_userid": userid,
            "expires_in": self.token_expiration,
            "refresh_token": refresh,
            "scope": scope,
            "ttl": self.ttl(),
        });
        let row = row.as_object().cloned().unwrap_or_default();
        let made = rows.insert(TOKENS, row).await.map_err(failed)?;
        Ok(self.told(&made))
    }

    fn told(&self, token: &Row) -> Members {
        let mut members = Members::from_iter([
            (
                "access_token".to_owned(),
                token.get("access_token").cloned().unwrap_or(Value::Null),
            ),
            ("token_type".to_owned(), "bearer".into()),
        ]);
        if self.token_expiration > 0 {
            members.insert("expires_in".to_owned(), self.token_expiration.into());
        }
        if let Some(refresh) = text(token, "refresh_token") {
            members.insert("refresh_token".to_owned(), refresh.into());
        }
        members
    }

    /// After how many seconds a token and what refreshes it are forgotten.
    fn ttl(&self) -> Option<i64> {
        let ends = self.token_expiration > 0 && self.refresh_token_ttl > 0;
        ends.then_some(self.refresh_token_ttl)
    }

    /// Whether a row is good for the service of this request.
    fn is_for_service(&self, ctx: &AccessCtx<'_>, row: &Row) -> Result<bool, PluginError> {
        let here = self.service(ctx)?;
        Ok(here.is_none() || reference(row, "service") == here)
    }

    async fn is_proven(
        &self,
        client: &Client,
        proof: &Proof,
        rows: &dyn Rows,
    ) -> Result<(), Failure> {
        let given = proof.secret.as_deref().unwrap_or_default();
        if client.is_public {
            return match given.trim().is_empty() {
                true => Ok(()),
                false => {
                    Err(Refusal::request("client_secret is disallowed for public clients").into())
                }
            };
        }
        if proof.secret.is_some() && client.has_secret(given, rows).await? {
            return Ok(());
        }
        Err(Refusal::client().into())
    }

    /// Both in parameters, or both in a header (RFC 7617), or the name alone.
    fn proof(&self, ctx: &AccessCtx<'_>, parameters: &Parameters) -> Proof {
        let owned = |name| parameters.text(name).map(Cow::into_owned);
        let (id, secret) = (owned("client_id"), owned("client_secret"));
        if id.is_some() && secret.is_some() {
            return Proof {
                id,
                secret,
                in_header: false,
            };
        }
        let Some(header) = self.header.as_ref().and_then(|h| ctx.header(h.name())) else {
            return Proof {
                id,
                ..Proof::default()
            };
        };
        let (id, secret) = match basic(header) {
            Some((id, secret)) => (Some(id), secret),
            None => (None, None),
        };
        Proof {
            id,
            secret,
            in_header: true,
        }
    }
}

fn wrong_provision_key() -> Refusal {
    Refusal::new("invalid_provision_key", "Invalid provision_key")
}

/// Name and password of `Basic` credentials, wherever the word stands.
fn basic(header: &HeaderValue) -> Option<(String, Option<String>)> {
    let text = header.to_str().ok()?;
    let at = text.find("asic").filter(|at| *at > 0)?;
    let is_word = matches!(text.as_bytes()[at - 1], b'B' | b'b');
    let encoded = text[at + 4..].trim();
    let decoded = is_word.then(|| LENIENT.decode(encoded).ok()).flatten()?;
    let decoded = String::from_utf8(decoded).ok()?;
    Some(match decoded.split_once(':') {
        Some((id, secret)) => (id.to_owned(), Some(secret.to_owned())),
        None => (decoded, None),
    })
}

fn random() -> String {
    let bytes = rand::rng().sample_iter(Alphanumeric).take(32);
    bytes.map(char::from).collect()
}

fn text<'r>(row: &'r Row, field: &str) -> Option<&'r str> {
    row.get(field)?.as_str()
}

fn id_of(row: &Row) -> Option<Uuid> {
    text(row, "id")?.parse().ok()
}

fn reference(row: &Row, field: &str) -> Option<Uuid> {
    row.get(field)?.get("id")?.as_str()?.parse().ok()
}
