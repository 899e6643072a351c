//! `acl`: lets consumers in, or keeps them out, by the groups that they are in. Another plugin has to find out who calls.
//!
//! Learnt from `kong/plugins/acl/handler.lua`, `groups.lua`, `schema.lua`, `daos.lua` and `api.lua`.

mod config;
mod group;
#[cfg(test)]
mod tests;

use std::sync::LazyLock;

use http::{HeaderValue, StatusCode};
use silverback_plugin::auth::AuthenticatedGroups;
use silverback_plugin::schema::{EntityCheck, EntityDef};
use silverback_plugin::{
    AccessCtx, ConfigError, Flow, Handler, HeaderKey, PhaseResult, Phases, Plugin, PluginEnv,
    Response, Scopes,
};

pub use config::Config;
pub use group::GROUPS;

static CONSUMER_GROUPS: LazyLock<HeaderKey> =
    LazyLock::new(|| HeaderKey::from_static("X-Consumer-Groups"));
static AUTHENTICATED_GROUPS: LazyLock<HeaderKey> =
    LazyLock::new(|| HeaderKey::from_static("X-Authenticated-Groups"));

/// The plugin.
#[derive(Debug)]
pub struct Acl {
    groups: Box<[String]>,
    /// Whether those groups are let in, rather than kept out.
    allow: bool,
    hide: bool,
    authenticated_first: bool,
}

impl Plugin for Acl {
    const NAME: &'static str = "acl";
    const PRIORITY: i32 = 950;
    const VERSION: &'static str = "3.9.1";
    const PHASES: Phases = Phases::ACCESS;
    const SCOPES: Scopes = Scopes::NO_CONSUMER;
    type Config = Config;

    fn checks() -> Vec<EntityCheck> {
        let lists = || vec!["config.allow", "config.deny"];
        vec![
            EntityCheck::OnlyOneOf(lists()),
            EntityCheck::AtLeastOneOf(lists()),
        ]
    }

    fn entities() -> Vec<EntityDef> {
        vec![group::def()]
    }

    fn compile(config: Config, _env: &PluginEnv<'_>) -> Result<Self, ConfigError> {
        let deny = config.deny.filter(|groups| !groups.is_empty());
        let allow = deny.is_none();
        Ok(Acl {
            groups: deny.or(config.allow).unwrap_or_default().into(),
            allow,
            hide: config.hide_groups_header,
            authenticated_first: config.always_use_authenticated_groups,
        })
    }
}

impl Handler for Acl {
    fn access(&self, ctx: &mut AccessCtx<'_>) -> PhaseResult {
        let facts = &ctx.facts;
        let proven = facts.credential.is_some();
        // Groups of the caller count where no consumer of ours was proven.
        let found = facts
            .slots
            .get::<AuthenticatedGroups>()
            .filter(|_| facts.consumer.is_none() || !proven || self.authenticated_first);
        let told = match (found, &facts.consumer) {
            (Some(AuthenticatedGroups(groups)), _) => {
                self.verdict(groups).map(|v| (&*AUTHENTICATED_GROUPS, v))
            }
            (None, Some(consumer)) => {
                let groups = ctx.directory.values_of(GROUPS, consumer.id);
                if groups.is_empty() && self.allow && !proven {
                    return Ok(refuse(StatusCode::UNAUTHORIZED, "Unauthorized"));
                }
                self.verdict(groups).map(|v| (&*CONSUMER_GROUPS, v))
            }
            (None, None) if proven => None,
            (None, None) => return Ok(refuse(StatusCode::UNAUTHORIZED, "Unauthorized")),
        };
        match told {
            None => Ok(refuse(
                StatusCode::FORBIDDEN,
                "You cannot consume this service",
            )),
            Some((name, Some(groups))) => {
                ctx.upstream.set(name.clone(), groups);
                Ok(Flow::Next)
            }
            Some((_, None)) => Ok(Flow::Next),
        }
    }
}

impl Acl {
    /// `None` for a caller in those groups who is kept out; else what the upstream is told of them, if anything.
    fn verdict(&self, groups: &[Box<str>]) -> Option<Option<HeaderValue>> {
        let inside = self
            .groups
            .iter()
            .any(|wanted| groups.iter().any(|g| **g == **wanted));
        let told = || HeaderValue::from_bytes(groups.join(", ").as_bytes()).ok();
        (inside == self.allow).then(|| if self.hide { None } else { told() })
    }
}

fn refuse(status: StatusCode, text: &'static str) -> Flow {
    Flow::Exit(Response::error(status, text))
}
