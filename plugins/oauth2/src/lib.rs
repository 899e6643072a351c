//! `oauth2`: applications of consumers and the tokens given out to them. What gives them out and checks them is not there yet.
//!
//! Learnt from `kong/plugins/oauth2/daos.lua` and `secret.lua`.

mod application;
mod secret;
mod token;

use silverback_plugin::schema::EntityDef;

/// The entities of the plugin.
pub fn entities() -> Vec<EntityDef> {
    vec![application::def(), token::def()]
}
