//! What went wrong with an attempt, told apart by what the upstream may have done meanwhile.

use super::Hints;
use std::str::FromStr;
use thiserror::Error;

/// Where an attempt was when its time ran out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    /// Opening the connection, TLS included.
    Connect,
    /// Sending the request; a part of it may have arrived.
    Send,
    /// Waiting for the response.
    Read,
}

/// How an attempt failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// No connection: no address, refused, unreachable, TLS handshake failed.
    ConnectFailed,
    /// The upstream cannot have acted on the request: no byte was written, or HTTP/2 said so (`REFUSED_STREAM`, or
    /// a `GOAWAY` below the stream; RFC 9113, 8.7).
    NotSent,
    /// A connection kept alive from an earlier request broke before any byte of the response: most likely it had
    /// been closed before this request reached it (RFC 9112, 9.3.1).
    ResetOnReusedConnection,
    /// The connection broke, or the response made no sense, once the request was on its way.
    Reset,
    /// A time-out.
    Timeout(Stage),
    /// A response whose status may mean "try again".
    Status {
        /// The HTTP status.
        code: u16,
        /// What the response said about trying again.
        hints: Hints,
    },
    /// A gRPC response that ended with this status.
    Grpc {
        /// The `grpc-status`.
        status: u16,
        /// What the response said about trying again.
        hints: Hints,
    },
}

impl Failure {
    /// The kind of failure that terms can name.
    #[must_use]
    pub const fn cause(&self) -> Cause {
        match self {
            Self::ConnectFailed => Cause::ConnectFailure,
            Self::NotSent => Cause::NotSent,
            Self::ResetOnReusedConnection | Self::Reset => Cause::Reset,
            Self::Timeout(Stage::Connect) => Cause::ConnectTimeout,
            Self::Timeout(Stage::Send) => Cause::SendTimeout,
            Self::Timeout(Stage::Read) => Cause::ReadTimeout,
            Self::Status { .. } => Cause::Status,
            Self::Grpc { .. } => Cause::GrpcStatus,
        }
    }

    /// Whether the upstream may have acted on the request.
    #[must_use]
    pub const fn was_sent(&self) -> bool {
        !matches!(
            self,
            Self::ConnectFailed | Self::NotSent | Self::Timeout(Stage::Connect)
        )
    }

    /// What the upstream said about trying again.
    #[must_use]
    pub const fn hints(&self) -> Hints {
        match self {
            Self::Status { hints, .. } | Self::Grpc { hints, .. } => *hints,
            _ => Hints::NONE,
        }
    }
}

/// A kind of failure, as named in configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Cause {
    /// `connect_failure`: [`Failure::ConnectFailed`].
    ConnectFailure,
    /// `not_sent`: [`Failure::NotSent`].
    NotSent,
    /// `reset`: [`Failure::Reset`], and a second [`Failure::ResetOnReusedConnection`].
    Reset,
    /// `connect_timeout`.
    ConnectTimeout,
    /// `send_timeout`.
    SendTimeout,
    /// `read_timeout`.
    ReadTimeout,
    /// `status`: one of [`Terms::statuses`](super::Terms::statuses).
    Status,
    /// `grpc_status`: one of [`Terms::grpc_statuses`](super::Terms::grpc_statuses).
    GrpcStatus,
}

impl Cause {
    /// All causes.
    pub const ALL: [Self; 8] = [
        Self::ConnectFailure,
        Self::NotSent,
        Self::Reset,
        Self::ConnectTimeout,
        Self::SendTimeout,
        Self::ReadTimeout,
        Self::Status,
        Self::GrpcStatus,
    ];

    /// The name used in configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ConnectFailure => "connect_failure",
            Self::NotSent => "not_sent",
            Self::Reset => "reset",
            Self::ConnectTimeout => "connect_timeout",
            Self::SendTimeout => "send_timeout",
            Self::ReadTimeout => "read_timeout",
            Self::Status => "status",
            Self::GrpcStatus => "grpc_status",
        }
    }
}

/// A name that is no [`Cause`].
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("unknown kind of failure: {0}")]
pub struct UnknownCause(String);

impl FromStr for Cause {
    type Err = UnknownCause;

    fn from_str(name: &str) -> Result<Self, UnknownCause> {
        Self::ALL
            .into_iter()
            .find(|cause| cause.name() == name)
            .ok_or_else(|| UnknownCause(name.to_owned()))
    }
}

/// A set of [`Cause`]s. The default is all of them; the two about statuses do nothing until statuses are named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryOn(u8);

impl RetryOn {
    /// No failure at all.
    pub const NOTHING: Self = Self(0);

    /// Whether `cause` is in the set.
    #[must_use]
    pub const fn contains(self, cause: Cause) -> bool {
        self.0 & (1 << cause as u8) != 0
    }
}

impl Default for RetryOn {
    fn default() -> Self {
        Cause::ALL.into_iter().collect()
    }
}

impl FromIterator<Cause> for RetryOn {
    fn from_iter<I: IntoIterator<Item = Cause>>(causes: I) -> Self {
        causes
            .into_iter()
            .fold(Self::NOTHING, |set, cause| Self(set.0 | 1 << cause as u8))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cause_is_found_by_its_name_and_in_its_own_set_only() {
        for cause in Cause::ALL {
            assert_eq!(cause.name().parse(), Ok(cause));
            let set: RetryOn = [cause].into_iter().collect();
            for other in Cause::ALL {
                assert_eq!(set.contains(other), other == cause);
            }
            assert!(RetryOn::default().contains(cause));
            assert!(!RetryOn::NOTHING.contains(cause));
        }
        assert_eq!(
            "5xx".parse::<Cause>().map_err(|e| e.to_string()),
            Err("unknown kind of failure: 5xx".to_owned())
        );
    }

    #[test]
    fn only_failures_before_sending_leave_the_upstream_untouched() {
        for (failure, sent) in [
            (Failure::ConnectFailed, false),
            (Failure::NotSent, false),
            (Failure::Timeout(Stage::Connect), false),
            (Failure::Timeout(Stage::Send), true),
            (Failure::Timeout(Stage::Read), true),
            (Failure::Reset, true),
            (Failure::ResetOnReusedConnection, true),
        ] {
            assert_eq!(failure.was_sent(), sent, "{failure:?}");
        }
    }
}
