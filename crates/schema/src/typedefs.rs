//! Fields that many definitions share; Kong's `kong/db/schema/typedefs.lua` and `kong/tools/redis/schema.lua`. More can be said about each.

use crate::checks;
use crate::field::{Field, Kind, RecordDef, boolean, integer, set, string};

/// The longest timeout in milliseconds: 2^31 - 2.
pub const TIMEOUT_MAX: i64 = 2_147_483_646;

/// A host name or address without port.
pub fn host() -> Field {
    string().check(checks::host)
}

/// A port.
pub fn port() -> Field {
    integer().between(0, 65535)
}

/// A timeout in milliseconds.
pub fn timeout() -> Field {
    integer().between(0, TIMEOUT_MAX)
}

/// A path.
pub fn path() -> Field {
    string()
        .starts_with("/")
        .match_none("//", "must not have empty segments")
        .check(checks::path)
}

/// A URL with scheme and host.
pub fn url() -> Field {
    string().check(checks::url)
}

/// The name of an HTTP header.
pub fn header_name() -> Field {
    string().check(checks::header_name)
}

/// An address.
pub fn ip() -> Field {
    string().check(checks::ip)
}

/// An address or a block of addresses.
pub fn ip_or_cidr() -> Field {
    string().check(checks::ip_or_cidr)
}

/// A server name of the TLS handshake.
pub fn sni() -> Field {
    string().check(checks::sni)
}

/// `tags`, as every entity has it.
pub fn tags() -> Field {
    set(string().required().len_min(1).check(checks::tag))
}

/// `tags` of most credentials: as [`tags`], but that schemas do not show the length.
pub fn credential_tags() -> Field {
    set(string().required().check(checks::tag))
}

/// Where a Redis server is and how to log in: the `redis` record of several plugins.
pub fn redis() -> Field {
    let fields = vec![
        ("host", host().describe("The host of the Redis server.")),
        (
            "port",
            port()
                .default(6379)
                .describe("The port of the Redis server."),
        ),
        (
            "timeout",
            timeout()
                .default(2000)
                .describe("Milliseconds to connect, to send and to wait for an answer."),
        ),
        (
            "username",
            string()
                .referenceable()
                .describe("The user, where Redis has access lists (6.0 and later)."),
        ),
        (
            "password",
            string()
                .encrypted()
                .referenceable()
                .len_min(0)
                .describe("The password; none when null."),
        ),
        (
            "database",
            integer().default(0).describe("The number of the database."),
        ),
        (
            "ssl",
            boolean()
                .optional()
                .default(false)
                .describe("Whether the connection is encrypted."),
        ),
        (
            "ssl_verify",
            boolean()
                .optional()
                .default(false)
                .describe("Whether the server's certificate is verified."),
        ),
        (
            "server_name",
            sni()
                .optional()
                .describe("The server name sent in the TLS handshake."),
        ),
    ];
    Field::new(Kind::Record(RecordDef {
        fields,
        ..RecordDef::default()
    }))
    .required()
    .describe("The Redis server.")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::{Value, json};

    use crate::{EntityDef, Op, complete};

    #[test]
    fn redis_is_filled_with_its_defaults() {
        let def = EntityDef::new("x", vec![("redis", super::redis())]);
        let row = complete(&def, Default::default(), Op::Insert, 1).unwrap();
        assert_eq!(
            Value::Object(row),
            json!({ "redis": {
                "host": null, "port": 6379, "timeout": 2000, "username": null, "password": null, "database": 0,
                "ssl": false, "ssl_verify": false, "server_name": null
            } })
        );
    }
}
