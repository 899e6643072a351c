//! Settings that take one of a few words.

use super::value::Codec;

/// Defines an enum whose variants are words of the file.
macro_rules! choice {
    ($(#[$meta:meta])* $type:ident { $($(#[$variant_meta:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $type { $($(#[$variant_meta])* $variant),+ }

        impl $type {
            /// The word of the configuration file.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }
        }

        impl Codec for $type {
            type Out = Self;

            fn parse(name: &str, raw: &str) -> Result<Self, String> {
                match raw {
                    $($word => Ok(Self::$variant),)+
                    _ => Err(format!(
                        "{name} has an invalid value: '{raw}' ({})",
                        [$($word),+].join(", "),
                    )),
                }
            }

            fn render(value: &Self) -> String {
                value.as_str().to_owned()
            }

            fn describe() -> String {
                [$($word),+].map(|word| format!("`{word}`")).join(", ")
            }
        }
    };
}

choice! {
    /// How much is logged: nginx's levels.
    LogLevel {
        /// Everything, also what only helps a developer.
        Debug = "debug",
        /// The normal course of events.
        Info = "info",
        /// What is normal but worth a note.
        Notice = "notice",
        /// What may become a problem.
        Warn = "warn",
        /// What failed.
        Error = "error",
        /// Logged as `error`.
        Crit = "crit",
        /// Logged as `error`.
        Alert = "alert",
        /// Logged as `error`.
        Emerg = "emerg",
    }
}

choice! {
    /// What this node does.
    Role {
        /// Everything: it proxies and it has the Admin API.
        Traditional = "traditional",
        /// The Admin API only.
        ControlPlane = "control_plane",
        /// Proxies only.
        DataPlane = "data_plane",
    }
}

choice! {
    /// How routes are ranked.
    RouterFlavor {
        /// Kong's default.
        TraditionalCompatible = "traditional_compatible",
        /// The router of Kong before version 3.
        Traditional = "traditional",
    }
}

choice! {
    /// The media type of an error when the client did not say what it accepts.
    ErrorType {
        /// Plain text.
        Plain = "text/plain",
        /// HTML.
        Html = "text/html",
        /// JSON.
        Json = "application/json",
        /// XML.
        Xml = "application/xml",
    }
}

choice! {
    /// Where the configuration of the gateway lives.
    Database {
        /// PostgreSQL.
        Postgres = "postgres",
        /// Nowhere: in a declarative file, or given through the Admin API as a whole.
        Off = "off",
    }
}

/// `database`, with Kong's other words refused by name.
pub enum DatabaseWord {}

impl Codec for DatabaseWord {
    type Out = Database;

    fn parse(name: &str, raw: &str) -> Result<Database, String> {
        match raw {
            "cassandra" => {
                Err("Cassandra as a datastore is not supported. Please use Postgres.".to_owned())
            }
            _ => Database::parse(name, raw),
        }
    }

    fn render(value: &Database) -> String {
        Database::render(value)
    }

    fn describe() -> String {
        Database::describe()
    }
}

/// `router_flavor`, with Kong's third word refused by name.
pub enum RouterFlavorWord {}

impl Codec for RouterFlavorWord {
    type Out = RouterFlavor;

    fn parse(name: &str, raw: &str) -> Result<RouterFlavor, String> {
        if raw == "expressions" {
            return Err(format!(
                "{name} = expressions is not supported yet; use traditional_compatible or traditional"
            ));
        }
        RouterFlavor::parse(name, raw)
    }

    fn render(value: &RouterFlavor) -> String {
        RouterFlavor::render(value)
    }

    fn describe() -> String {
        RouterFlavor::describe()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_word_is_answered_with_the_known_ones() {
        assert_eq!(
            Role::parse("role", "boss").unwrap_err(),
            "role has an invalid value: 'boss' (traditional, control_plane, data_plane)"
        );
        assert_eq!(DatabaseWord::parse("database", "off"), Ok(Database::Off));
        assert!(
            DatabaseWord::parse("database", "cassandra")
                .unwrap_err()
                .contains("Postgres")
        );
        assert!(
            RouterFlavorWord::parse("router_flavor", "expressions")
                .unwrap_err()
                .contains("not supported yet")
        );
    }
}
