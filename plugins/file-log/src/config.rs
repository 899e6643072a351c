//! What the plugin is told.

use silverback_export::fields::{CustomFieldsByLua, custom_fields_by_lua};
use silverback_plugin::schema::field::{boolean, string};
use silverback_plugin::schema::record;

record! {
    /// Settings of `file-log`.
    pub struct Config {
        /// The file. It is made when it is not there; its directory is not.
        pub path: String = string().required().matches_or("^[^*&%%\\`]+$", "not a valid filename"),
        /// Open the file anew for each request, so that it can be moved away and another one is begun.
        pub reopen: bool = boolean().required().default(false),
        /// Not supported: there is no Lua.
        pub custom_fields_by_lua: CustomFieldsByLua = custom_fields_by_lua(),
    }
}
