//! Settings that are lists of Kong's own words: `headers`, `headers_upstream`, `tracing_instrumentations` and `plugins`.

use serde_json::{Map, Value, json};

use super::value::{Codec, entries};

/// The headers that the gateway adds to responses (`headers`), by Kong's names.
///
/// Learnt from `kong/conf_loader/init.lua`: `server_tokens` and `latency_tokens` stand for several.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "one per header, each switched by itself"
)]
pub struct ResponseHeaders {
    /// The words of the file, in its order.
    pub tokens: Vec<String>,
    /// `Server`, on responses that the gateway made itself.
    pub server: bool,
    /// `Via`, on proxied responses.
    pub via: bool,
    /// `X-Kong-Proxy-Latency`.
    pub proxy_latency: bool,
    /// `X-Kong-Response-Latency`.
    pub response_latency: bool,
    /// `X-Kong-Admin-Latency`.
    pub admin_latency: bool,
    /// `X-Kong-Upstream-Latency`.
    pub upstream_latency: bool,
    /// `X-Kong-Upstream-Status`.
    pub upstream_status: bool,
    /// `X-Kong-Request-Id`.
    pub request_id: bool,
}

impl ResponseHeaders {
    /// `enabled_headers` of `GET /`: every word, and whether it is switched on.
    #[must_use]
    pub fn json(&self) -> Value {
        json!({
            "server_tokens": self.has("server_tokens"),
            "latency_tokens": self.has("latency_tokens"),
            "Server": self.server,
            "Via": self.via,
            "X-Kong-Proxy-Latency": self.proxy_latency,
            "X-Kong-Response-Latency": self.response_latency,
            "X-Kong-Admin-Latency": self.admin_latency,
            "X-Kong-Upstream-Latency": self.upstream_latency,
            "X-Kong-Upstream-Status": self.upstream_status,
            "X-Kong-Request-Id": self.request_id,
        })
    }

    fn has(&self, token: &str) -> bool {
        self.tokens
            .iter()
            .any(|known| known.eq_ignore_ascii_case(token))
    }
}

impl Codec for ResponseHeaders {
    type Out = Self;

    fn parse(name: &str, raw: &str) -> Result<Self, String> {
        let mut headers = Self::default();
        for token in switched_on(raw) {
            match token.to_ascii_lowercase().as_str() {
                "server_tokens" => (headers.server, headers.via) = (true, true),
                "latency_tokens" => {
                    headers.proxy_latency = true;
                    headers.response_latency = true;
                    headers.admin_latency = true;
                    headers.upstream_latency = true;
                }
                "server" => headers.server = true,
                "via" => headers.via = true,
                "x-kong-proxy-latency" => headers.proxy_latency = true,
                "x-kong-response-latency" => headers.response_latency = true,
                "x-kong-admin-latency" => headers.admin_latency = true,
                "x-kong-upstream-latency" => headers.upstream_latency = true,
                "x-kong-upstream-status" => headers.upstream_status = true,
                "x-kong-request-id" => headers.request_id = true,
                _ => return Err(format!("{name}: invalid entry '{token}'")),
            }
            headers.tokens.push(token.to_owned());
        }
        Ok(headers)
    }

    fn render(value: &Self) -> String {
        off_or_list(&value.tokens)
    }

    fn describe() -> String {
        "`off`, or a comma-separated list of `server_tokens`, `latency_tokens`, `Server`, `Via`, \
         `X-Kong-Proxy-Latency`, `X-Kong-Response-Latency`, `X-Kong-Admin-Latency`, \
         `X-Kong-Upstream-Latency`, `X-Kong-Upstream-Status`, `X-Kong-Request-Id`"
            .into()
    }

    fn json(value: &Self) -> Option<Value> {
        Some(list_json(&value.tokens))
    }
}

/// The headers that the gateway adds to requests for the upstream (`headers_upstream`).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UpstreamHeaders {
    /// The words of the file, in its order.
    pub tokens: Vec<String>,
    /// `X-Kong-Request-Id`.
    pub request_id: bool,
}

impl UpstreamHeaders {
    /// `enabled_headers_upstream` of `GET /`.
    #[must_use]
    pub fn json(&self) -> Value {
        json!({ "X-Kong-Request-Id": self.request_id })
    }
}

impl Codec for UpstreamHeaders {
    type Out = Self;

    fn parse(name: &str, raw: &str) -> Result<Self, String> {
        let mut headers = Self::default();
        for token in switched_on(raw) {
            if !token.eq_ignore_ascii_case("x-kong-request-id") {
                return Err(format!("{name}: invalid entry '{token}'"));
            }
            headers.request_id = true;
            headers.tokens.push(token.to_owned());
        }
        Ok(headers)
    }

    fn render(value: &Self) -> String {
        off_or_list(&value.tokens)
    }

    fn describe() -> String {
        "`off` or `X-Kong-Request-Id`".into()
    }

    fn json(value: &Self) -> Option<Value> {
        Some(list_json(&value.tokens))
    }
}

/// What is measured of requests for traces (`tracing_instrumentations`). Learnt from `kong/conf_loader/parse.lua`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Instrumentations {
    /// The words of the file, in its order.
    pub tokens: Vec<String>,
    /// Whether the attempts at upstreams are measured.
    pub balancer: bool,
}

impl Instrumentations {
    /// Whether anything is measured: then requests are.
    #[must_use]
    pub fn any(&self) -> bool {
        !self.tokens.is_empty()
    }
}

impl Codec for Instrumentations {
    type Out = Self;

    fn parse(name: &str, raw: &str) -> Result<Self, String> {
        const KONGS: [&str; 7] = [
            "db_query",
            "dns_query",
            "router",
            "http_client",
            "plugin_rewrite",
            "plugin_access",
            "plugin_header_filter",
        ];
        let mut found = Self::default();
        let off = entries(raw).any(|token| token == "off");
        if off && entries(raw).count() > 1 {
            return Err("invalid tracing types: off, other types are mutually exclusive".into());
        }
        for token in entries(raw).filter(|token| *token != "off") {
            match token {
                "request" => {}
                "all" | "balancer" => found.balancer = true,
                _ if KONGS.contains(&token) => {
                    return Err(format!(
                        "{name}: '{token}' is not measured here (off, all, request, balancer)"
                    ));
                }
                _ => return Err(format!("invalid tracing type: {token}")),
            }
            found.tokens.push(token.to_owned());
        }
        Ok(found)
    }

    fn render(value: &Self) -> String {
        off_or_list(&value.tokens)
    }

    fn describe() -> String {
        "`off`, or a comma-separated list of `request`, `balancer`, `all`".into()
    }

    fn json(value: &Self) -> Option<Value> {
        Some(list_json(&value.tokens))
    }
}

/// Which plugins this node loads (`plugins`).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PluginSelection {
    /// Whether `bundled` is in the list: all that this binary brings.
    pub bundled: bool,
    /// The plugins that are named one by one.
    pub names: Vec<String>,
    tokens: Vec<String>,
}

impl PluginSelection {
    /// The names to load, out of what the binary `offers`, in the order offered.
    ///
    /// # Errors
    /// The names in the list that the binary does not offer.
    pub fn select<'a>(&self, offers: &[&'a str]) -> Result<Vec<&'a str>, Vec<String>> {
        let missing: Vec<String> = self
            .names
            .iter()
            .filter(|name| !offers.contains(&name.as_str()))
            .cloned()
            .collect();
        if !missing.is_empty() {
            return Err(missing);
        }
        let wanted = |offer: &&str| self.bundled || self.names.iter().any(|name| name == offer);
        Ok(offers.iter().copied().filter(wanted).collect())
    }
}

impl Codec for PluginSelection {
    type Out = Self;

    fn parse(_name: &str, raw: &str) -> Result<Self, String> {
        let mut selection = Self::default();
        for token in switched_on(raw) {
            if token == "bundled" {
                selection.bundled = true;
            } else {
                selection.names.push(token.to_owned());
            }
            selection.tokens.push(token.to_owned());
        }
        Ok(selection)
    }

    fn render(value: &Self) -> String {
        off_or_list(&value.tokens)
    }

    fn describe() -> String {
        "`off`, or a comma-separated list of `bundled` and names of plugins".into()
    }

    fn json(value: &Self) -> Option<Value> {
        Some(list_json(&value.tokens))
    }
}

/// `loaded_plugins` of `GET /`.
pub(super) fn loaded_plugins(names: &[&str]) -> Value {
    Value::Object(
        names
            .iter()
            .map(|name| ((*name).to_owned(), json!(true)))
            .collect::<Map<_, _>>(),
    )
}

/// The entries of a list in which a leading `off` switches everything off and a later one says nothing.
fn switched_on(raw: &str) -> impl Iterator<Item = &str> {
    let off = entries(raw).next() == Some("off");
    entries(raw).filter(move |entry| !off && *entry != "off")
}

fn off_or_list(tokens: &[String]) -> String {
    if tokens.is_empty() {
        "off".into()
    } else {
        tokens.join(", ")
    }
}

fn list_json(tokens: &[String]) -> Value {
    if tokens.is_empty() {
        json!(["off"])
    } else {
        json!(tokens)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn instrumentations_are_those_that_are_measured() {
        let parse = |raw| Instrumentations::parse("tracing_instrumentations", raw);
        assert!(!parse("off").unwrap().any());
        let measured = |raw| parse(raw).map(|i| (i.any(), i.balancer));
        assert_eq!(measured("request"), Ok((true, false)));
        assert_eq!(measured("request, balancer"), Ok((true, true)));
        assert_eq!(measured("all"), Ok((true, true)));
        assert_eq!(
            parse("router").unwrap_err(),
            "tracing_instrumentations: 'router' is not measured here (off, all, request, balancer)"
        );
        assert_eq!(parse("x").unwrap_err(), "invalid tracing type: x");
        assert!(parse("off, all").unwrap_err().contains("exclusive"));
    }

    #[test]
    fn tokens_stand_for_several_headers() {
        let headers = ResponseHeaders::parse(
            "headers",
            "server_tokens, latency_tokens, X-Kong-Request-Id",
        )
        .unwrap();
        assert!(headers.server && headers.via && headers.proxy_latency && headers.response_latency);
        assert!(headers.admin_latency && headers.upstream_latency && headers.request_id);
        assert!(!headers.upstream_status);
        assert_eq!(headers.json()["X-Kong-Upstream-Status"], false);
        assert_eq!(headers.json()["latency_tokens"], true);
    }

    #[test]
    fn a_single_header_switches_only_itself_on() {
        let headers = ResponseHeaders::parse("headers", "VIA").unwrap();
        assert!(headers.via && !headers.server);
        assert_eq!(headers.json()["server_tokens"], false);
    }

    #[test]
    fn off_first_switches_all_off_and_later_says_nothing() {
        let off = ResponseHeaders::parse("headers", "off, via").unwrap();
        assert_eq!(off, ResponseHeaders::default());
        assert_eq!(ResponseHeaders::render(&off), "off");
        assert!(ResponseHeaders::parse("headers", "via, off").unwrap().via);
        assert!(
            !UpstreamHeaders::parse("headers_upstream", "off")
                .unwrap()
                .request_id
        );
    }

    #[test]
    fn unknown_headers_are_refused_in_kongs_words() {
        assert_eq!(
            ResponseHeaders::parse("headers", "via, foo").unwrap_err(),
            "headers: invalid entry 'foo'"
        );
        assert_eq!(
            UpstreamHeaders::parse("headers_upstream", "via").unwrap_err(),
            "headers_upstream: invalid entry 'via'"
        );
    }

    #[test]
    fn plugins_are_selected_from_what_the_binary_offers() {
        let offers = ["cors", "key-auth", "mine"];
        let select = |raw: &str| {
            PluginSelection::parse("plugins", raw)
                .unwrap()
                .select(&offers)
        };
        assert_eq!(select("bundled"), Ok(offers.to_vec()));
        assert_eq!(select("key-auth, cors"), Ok(vec!["cors", "key-auth"]));
        assert_eq!(select("off"), Ok(vec![]));
        assert_eq!(select("bundled, ghost"), Err(vec!["ghost".to_owned()]));
    }
}
