//! What the plugin is told.

use silverback_export::fields::{CustomFieldsByLua, custom_fields_by_lua, timeout};
use silverback_plugin::schema::record;
use silverback_plugin::schema::typedefs::{host, port};

record! {
    /// Settings of `udp-log`.
    pub struct Config {
        /// The server: its name or its address.
        pub host: String = host().required(),
        /// The server's port.
        pub port: u16 = port().required(),
        /// Milliseconds to resolve the name, and to send.
        pub timeout: Option<f64> = timeout(),
        /// Not supported: there is no Lua.
        pub custom_fields_by_lua: CustomFieldsByLua = custom_fields_by_lua(),
    }
}
