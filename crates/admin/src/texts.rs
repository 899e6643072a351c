//! Texts that clients see, in Kong's words (`kong/api/api_helpers.lua`, `kong/api/endpoints.lua`, `kong/db/errors.lua`).

pub(crate) const NOT_FOUND: &str = "Not found";
pub(crate) const METHOD_NOT_ALLOWED: &str = "Method not allowed";
pub(crate) const UNEXPECTED: &str = "An unexpected error occurred";
pub(crate) const BAD_JSON: &str = "Cannot parse JSON body";
pub(crate) const TOO_MANY_ARGUMENTS: &str = "Too many arguments";
pub(crate) const VALID: &str = "schema validation successful";
pub(crate) const CUSTOM_ID: &str = "custom_id must be an unempty string";
pub(crate) const ROUTE_PROTOCOLS: &str = "must match the associated route's protocols";
pub(crate) const SERVICE_PROTOCOLS: &str =
    "must match the protocols of at least one route pointing to this Plugin's service";
pub(crate) const TAGS_READ_ONLY: &str = "does not support insert/upsert/update/delete operations";
pub(crate) const NO_FILTERS: &str = "this endpoint is only available when wasm is enabled";
pub(crate) const HAS_DATABASE: &str =
    "this endpoint is only available when Kong is configured to not use a database";
pub(crate) const NO_CONFIG: &str = "expected a declarative configuration";
pub(crate) const CONFIG_BUSY: &str = "Currently loading previous configuration";
pub(crate) const UNAUTHORIZED: &str = "Unauthorized";
pub(crate) const NOT_A_CONTROL_PLANE: &str = "this endpoint is only available when Kong is configured to run as Control Plane for the cluster";
pub(crate) const NO_DNS: &str = "not implemented with the legacy DNS client";
pub(crate) const LEVEL_WITHOUT_DATABASE: &str = "cannot change log level when not using a database";
pub(crate) const NO_SNI: &str = "SNI not found";

// Kong has no words for these: it answers 500, or nginx answers, or it is otherwise there.
pub(crate) const DATA_PLANES_UNKNOWN: &str =
    "data planes read the database themselves; control planes do not know of them";
pub(crate) const NOT_AN_OBJECT: &str = "Cannot parse JSON body: it must be an object";
pub(crate) const BAD_FORM: &str = "Cannot parse form body: it must be UTF-8 text";
pub(crate) const BAD_MULTIPART: &str = "Cannot parse multipart body";
pub(crate) const BAD_PATH: &str = "Cannot parse path: it must be percent-encoded UTF-8 text";
pub(crate) const NUL: &str = "Text must not contain NUL characters";
pub(crate) const BODY_TOO_LARGE: &str = "Request body too large";
pub(crate) const BODY_TOO_SLOW: &str = "Request body did not arrive in time";
pub(crate) const BODY_BROKEN: &str = "Request body ended early";
pub(crate) const DATABASE_AWAY: &str = "the database cannot be reached, try again later";
pub(crate) const TOO_SLOW: &str = "the request took too long, try again later";
pub(crate) const READ_ONLY: &str = "this token may only read";
pub(crate) const NO_DRY_RUN: &str = "not possible at this endpoint";
pub(crate) const DRY_RUN_OF_ALL: &str =
    "a batch is tried as a whole or not: say it in the URL of the batch";
pub(crate) const IF_MATCH_OF_MANY: &str =
    "If-Match is about one entity, and this path with this method names none";
pub(crate) const IF_MATCH_OF_NOTHING: &str =
    "If-Match names a version of an entity that is not there";
pub(crate) const NO_BATCH: &str = "only writes of entities can be part of a batch";
pub(crate) const NO_OPERATIONS: &str = "the body must be a list of operations";
