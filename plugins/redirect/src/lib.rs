//! `redirect`: sends clients to another place.
//!
//! Learnt from `kong/plugins/redirect/handler.lua` and `schema.lua`.

mod config;
#[cfg(test)]
mod tests;

use std::sync::LazyLock;

use bytes::Bytes;
use http::{HeaderValue, StatusCode};
use percent_encoding::{CONTROLS, percent_encode};
use silverback_plugin::schema::checks::normalize_path;
use silverback_plugin::{
    AccessCtx, Body, ConfigError, Flow, Handler, HeaderKey, PhaseResult, Phases, Plugin, PluginEnv,
    PluginError, RequestView, Response,
};
use url::Url;

pub use config::Config;

static LOCATION: LazyLock<HeaderKey> = LazyLock::new(|| HeaderKey::from_static("Location"));

/// The plugin.
#[derive(Debug)]
pub struct Redirect {
    status: StatusCode,
    to: Place,
}

#[derive(Debug)]
enum Place {
    /// Always there.
    Fixed(HeaderValue),
    /// There, at the path and query of the request.
    SamePath(Url),
}

impl Plugin for Redirect {
    const NAME: &'static str = "redirect";
    const PRIORITY: i32 = 779;
    const VERSION: &'static str = "3.9.1";
    const PHASES: Phases = Phases::ACCESS;
    type Config = Config;

    fn compile(config: Config, _env: &PluginEnv<'_>) -> Result<Self, ConfigError> {
        let refused = |why: String| ConfigError::new("location", why);
        let to = if config.keep_incoming_path == Some(true) {
            let url = Url::parse(&config.location).map_err(|e| refused(e.to_string()))?;
            Place::SamePath(url)
        } else {
            let value = HeaderValue::from_str(&config.location);
            Place::Fixed(value.map_err(|_| refused("cannot be a header's value".to_owned()))?)
        };
        Ok(Redirect {
            status: StatusCode::from_u16(config.status_code)
                .map_err(|_| ConfigError::new("status_code", "is no HTTP status"))?,
            to,
        })
    }
}

impl Handler for Redirect {
    fn access(&self, ctx: &mut AccessCtx<'_>) -> PhaseResult {
        let location = match &self.to {
            Place::Fixed(location) => location.clone(),
            Place::SamePath(url) => same_path(url.clone(), ctx.request)?,
        };
        let mut response = Response::empty(self.status).header(LOCATION.clone(), location);
        response.body = Body::Untyped(Bytes::from_static(b"redirecting"));
        Ok(Flow::Exit(response))
    }
}

/// The URL with the path and the query of the request, written as browsers write URLs.
fn same_path(mut url: Url, request: RequestView<'_>) -> Result<HeaderValue, PluginError> {
    let text = |bytes: &[u8]| percent_encode(bytes, CONTROLS).to_string();
    // As Kong has it: without needless escapes and doubled slashes.
    let path = normalize_path(request.path());
    url.set_path(&text(&path));
    let query = request.query().filter(|q| !q.is_empty()).map(text);
    url.set_query(query.as_deref());
    HeaderValue::try_from(String::from(url))
        .map_err(|_| PluginError::new("a URL is no header value"))
}
