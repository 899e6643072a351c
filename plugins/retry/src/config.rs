//! What the plugin is told. Ranges are those of `silverback-retry`.

use serde_json::{Map, Value};
use silverback_plugin::schema::field::{boolean, integer, number, record, set, string};
use silverback_plugin::schema::typedefs::TIMEOUT_MAX;
use silverback_plugin::schema::{CustomViolation, EntityCheck, record};

record! {
    /// Settings of `retry`.
    pub struct Config {
        /// How often a request is sent at most, the first time included; in place of the service's `retries`.
        pub attempts: u32 = integer().required().default(3).between(1, 100),
        /// The longest one attempt may take, in milliseconds. The service's timeouts apply as well.
        pub per_try_timeout: Option<u64> = integer().between(1, TIMEOUT_MAX),
        /// The longest all attempts and the pauses between them may take, in milliseconds.
        pub total_timeout: Option<u64> = integer().between(1, TIMEOUT_MAX),
        /// The pauses between attempts.
        pub backoff: Backoff = record::<Backoff>().required(),
        /// What is tried again: `connect_failure` (also a timeout while connecting), `reset` (the connection broke before a response),
        /// `timeout` (no response in time), `status` (a response with one of `statuses`).
        pub retry_on: Vec<String> = set(string().one_of(KINDS)).required().default(KINDS.to_vec()),
        /// The statuses meant by `status`.
        pub statuses: Vec<u16> = set(integer().between(100, 599)).required().default(vec![502, 503, 504]),
        /// Methods that may be sent again although the upstream may have acted on the request. Requests that were not sent yet, and those
        /// with an `Idempotency-Key`, are tried again whatever their method.
        pub methods: Vec<String> = set(string().match_all("^[A-Z]+$", "must be upper-case letters")).required()
            .default(vec!["GET", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE"]),
        /// Wait as long as `Retry-After` says; when that is more than a second, do not try again.
        pub honour_retry_after: bool = boolean().required().default(true),
        /// The budget of the services this configuration is on; the gateway's own settings apply without it. Not read on a consumer.
        pub budget: Option<Budget> = record::<Budget>(),
    }
}

record! {
    /// The pauses between attempts: before retry n, anything up to `base` times 2 to the power of n-1.
    pub struct Backoff {
        /// The longest first pause, in milliseconds; 0 for none.
        pub base: u64 = integer().required().default(25).between(0, 60_000),
        /// The longest pause, in milliseconds.
        pub max: u64 = integer().required().default(1000).between(0, 60_000),
    }
}

record! {
    /// How many attempts there may be beside the first ones.
    pub struct Budget {
        /// Retries earned by each first attempt that succeeds. More than 0.1 lets retries hold down an upstream that could recover.
        pub ratio: f64 = number().required().default(0.1).between(0, 10),
        /// Retries per second that are always allowed, over the whole cluster.
        pub min_retries_per_second: f64 = number().required().default(10).between(0, 1_000_000),
        /// How long an earned retry can be used, in seconds.
        pub ttl: u64 = integer().required().default(10).between(1, 30),
        /// So many retries per `window` at most, over the whole cluster, however many were earned.
        pub max_retries: Option<u64> = integer().between(0, 1_000_000_000),
        /// The window of `max_retries`, in seconds.
        pub window: u64 = integer().required().default(10).between(1, 60),
    }
}

const KINDS: [&str; 4] = ["connect_failure", "reset", "timeout", "status"];

pub(crate) fn checks() -> Vec<EntityCheck> {
    vec![EntityCheck::Unlisted {
        when_valid: vec!["config"],
        run: together,
    }]
}

fn together(row: &Map<String, Value>) -> Result<(), CustomViolation> {
    let config = row.get("config").and_then(Value::as_object);
    let number = |path: [&str; 2]| config?.get(path[0])?.get(path[1])?.as_u64();
    let plain = |name: &str| config?.get(name)?.as_u64();
    let refuse = |text: &str| Err(CustomViolation::Field("config", text.into()));
    if number(["backoff", "max"]) < number(["backoff", "base"]) {
        return refuse("backoff.max must not be less than backoff.base");
    }
    match (plain("per_try_timeout"), plain("total_timeout")) {
        (Some(one), Some(all)) if one > all => {
            refuse("per_try_timeout must not be more than total_timeout")
        }
        _ => Ok(()),
    }
}
