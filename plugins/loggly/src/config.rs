//! What the plugin is told.

use silverback_export::fields::{
    CustomFieldsByLua, Severities, Severity, custom_fields_by_lua, severity, timeout,
};
use silverback_plugin::schema::field::{set, string};
use silverback_plugin::schema::record;
use silverback_plugin::schema::typedefs::{host, port};

/// Loggly's own server.
pub(crate) const HOST: &str = "logs-01.loggly.com";

/// The port of syslog.
pub(crate) const PORT: u16 = 514;

record! {
    /// Settings of `loggly`.
    pub struct Config {
        /// The server: its name or its address.
        pub host: Option<String> = host().default(HOST),
        /// The server's port.
        pub port: Option<u16> = port().default(PORT),
        /// The token of the customer.
        pub key: String = string().required().encrypted().referenceable(),
        /// Tags of the messages.
        pub tags: Option<Vec<String>> = set(string()).default(vec!["kong"]),
        /// Messages that are less grave are not sent.
        pub log_level: Option<String> = severity(),
        /// How grave responses below 400 are.
        pub successful_severity: Option<String> = severity(),
        /// How grave responses from 400 to 499 are.
        pub client_errors_severity: Option<String> = severity(),
        /// How grave responses from 500 on are.
        pub server_errors_severity: Option<String> = severity(),
        /// Milliseconds to resolve the name, and to send.
        pub timeout: Option<f64> = timeout(),
        /// Not supported: there is no Lua.
        pub custom_fields_by_lua: CustomFieldsByLua = custom_fields_by_lua(),
    }
}

impl Config {
    pub(crate) fn severities(&self) -> Severities {
        let of = |name: &Option<String>| Severity::of(name.as_deref().unwrap_or("info"));
        Severities {
            log_level: of(&self.log_level),
            successful: of(&self.successful_severity),
            client_errors: of(&self.client_errors_severity),
            server_errors: of(&self.server_errors_severity),
        }
    }
}
