//! What the plugin is told.

use silverback_export::fields::{
    CustomFieldsByLua, Severities, Severity, custom_fields_by_lua, severity,
};
use silverback_plugin::schema::field::string;
use silverback_plugin::schema::record;

/// Syslog's facilities with their numbers, in the order in which Kong shows them.
const FACILITIES: [(&str, u8); 20] = [
    ("auth", 4),
    ("authpriv", 10),
    ("cron", 9),
    ("daemon", 3),
    ("ftp", 11),
    ("kern", 0),
    ("lpr", 6),
    ("mail", 2),
    ("news", 7),
    ("syslog", 5),
    ("user", 1),
    ("uucp", 8),
    ("local0", 16),
    ("local1", 17),
    ("local2", 18),
    ("local3", 19),
    ("local4", 20),
    ("local5", 21),
    ("local6", 22),
    ("local7", 23),
];

record! {
    /// Settings of `syslog`.
    pub struct Config {
        /// Messages that are less grave are not sent.
        pub log_level: String = severity().required(),
        /// How grave responses below 400 are.
        pub successful_severity: String = severity().required(),
        /// How grave responses from 400 to 499 are.
        pub client_errors_severity: String = severity().required(),
        /// How grave responses from 500 on are.
        pub server_errors_severity: String = severity().required(),
        /// Not supported: there is no Lua.
        pub custom_fields_by_lua: CustomFieldsByLua = custom_fields_by_lua(),
        /// By which the daemon decides what becomes of a message.
        pub facility: String = string().required().default("user").one_of(FACILITIES.map(|(name, _)| name)),
    }
}

impl Config {
    pub(crate) fn severities(&self) -> Severities {
        Severities {
            log_level: Severity::of(&self.log_level),
            successful: Severity::of(&self.successful_severity),
            client_errors: Severity::of(&self.client_errors_severity),
            server_errors: Severity::of(&self.server_errors_severity),
        }
    }

    pub(crate) fn facility_number(&self) -> u8 {
        let mut all = FACILITIES.iter();
        let found = all.find(|(name, _)| *name == self.facility);
        found.map_or(1, |(_, number)| *number)
    }
}
