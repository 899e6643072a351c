//! What the plugin is told.

use silverback_export::fields::{CustomFieldsByLua, custom_fields_by_lua, keepalive, timeout};
use silverback_plugin::schema::field::{boolean, string};
use silverback_plugin::schema::record;
use silverback_plugin::schema::typedefs::{host, port};

record! {
    /// Settings of `tcp-log`.
    pub struct Config {
        /// The server: its name or its address.
        pub host: String = host().required(),
        /// The server's port.
        pub port: u16 = port().required(),
        /// Milliseconds to connect, and to send.
        pub timeout: Option<f64> = timeout(),
        /// Milliseconds that an idle connection is kept.
        pub keepalive: Option<f64> = keepalive(),
        /// Whether the connection is encrypted. The server's certificate is not verified.
        pub tls: bool = boolean().required().default(false),
        /// The server name sent in the TLS handshake.
        pub tls_sni: Option<String> = string(),
        /// Not supported: there is no Lua.
        pub custom_fields_by_lua: CustomFieldsByLua = custom_fields_by_lua(),
    }
}
