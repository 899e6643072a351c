//! Reading a request's body before it is proxied, for plugins that need the whole of it.
//!
//! Pingora replays up to 64 KiB of what was read. A longer body is put back in front of the client's stream (HTTP/1), or handed
//! over whole when the last piece is replayed (HTTP/2 with a known length). What cannot be kept is answered with 413: a body is
//! never lost on the way.

use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use http::header;
use pingora_core::apps::HttpPersistentSettings;
use pingora_core::protocols::http::ServerSession;
use pingora_core::protocols::l4::stream::Stream as TcpIo;
use pingora_core::protocols::tls::SslStream;
use pingora_core::protocols::{IO, Stream};
use pingora_proxy::Session;
use silverback_plugin::PluginError;
use silverback_plugin::context::BodySource;

use crate::gate::Gate;
use crate::names::number;

/// Pingora's replay buffer.
const REPLAYED: usize = 64 * 1024;

/// The body of a request that has none.
pub(crate) struct NoBody;

#[async_trait]
impl BodySource for NoBody {
    async fn read(&mut self, _max: usize) -> Result<Bytes, PluginError> {
        Ok(Bytes::new())
    }
}

/// The body of a request, read when somebody asks.
pub(crate) struct Body<'a> {
    session: &'a mut Session,
    /// Between two pieces.
    limit: Duration,
    /// The longest body that anybody may send, in bytes.
    most: usize,
    state: State,
}

enum State {
    Unread,
    Whole(Bytes),
    Lost,
    /// Longer than anybody may send.
    TooLong,
}

/// What became of the body in the access phase.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Left {
    /// The session has it all.
    Intact,
    /// Send this in place of what the session replays.
    Preset(Bytes),
    /// It cannot be sent on any more.
    Lost,
}

impl<'a> Body<'a> {
    /// `limit`: how long to wait for each piece of it; `most`: the most bytes that anybody may send, 0 for any number.
    pub(crate) fn new(session: &'a mut Session, limit: Duration, most: u64) -> Self {
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        Body {
            session,
            limit,
            most: if most == 0 { usize::MAX } else { most },
            state: State::Unread,
        }
    }

    /// How long it is, when it was read.
    pub(crate) fn length(&self) -> Option<u64> {
        match &self.state {
            State::Whole(body) => Some(body.len() as u64),
            State::Unread | State::Lost | State::TooLong => None,
        }
    }

    /// Whether it turned out to be longer than anybody may send.
    pub(crate) fn is_too_long(&self) -> bool {
        matches!(self.state, State::TooLong)
    }

    /// Puts the session in order for proxying.
    pub(crate) async fn finish(self) -> Left {
        let body = match self.state {
            State::Unread => return Left::Intact,
            State::Lost | State::TooLong => return Left::Lost,
            State::Whole(body) if body.len() <= REPLAYED => return Left::Intact,
            State::Whole(body) => body,
        };
        if self.session.is_http2() {
            return Left::Preset(body);
        }
        if put_back(self.session, &body).await.is_some() {
            Left::Intact
        } else {
            Left::Lost
        }
    }

    async fn read_all(&mut self, max: usize) -> Result<Bytes, PluginError> {
        let headers = &self.session.req_header().headers;
        let length = headers
            .get(header::CONTENT_LENGTH)
            .and_then(|v| v.to_str().ok()?.parse::<usize>().ok());
        if length.is_some_and(|l| l > max) {
            return Err(PluginError::body_too_long());
        }
        if headers.get(header::EXPECT).is_some() {
            // The client waits for a word before it sends.
            self.session
                .write_continue_response()
                .await
                .map_err(failed)?;
        }
        let h2 = self.session.is_http2();
        // Over HTTP/2 a long body's last piece must be in the replay buffer, and nothing before it.
        let late = if h2 {
            length.filter(|l| *l > REPLAYED)
        } else {
            None
        };
        let max = if h2 && length.is_none() {
            max.min(REPLAYED)
        } else {
            max
        };
        if late.is_none() {
            self.session.enable_retry_buffering();
        }
        self.state = State::Lost;
        let mut all = BytesMut::new();
        loop {
            if late.is_some_and(|l| l - all.len() <= REPLAYED) {
                self.session.enable_retry_buffering();
            }
            // Pingora watches the time over HTTP/1 only.
            let piece = tokio::time::timeout(self.limit, self.session.read_request_body());
            let piece = piece
                .await
                .map_err(|_| PluginError::new("request body did not arrive in time"))?;
            let Some(piece) = piece.map_err(failed)? else {
                break;
            };
            if all.len() + piece.len() > self.most {
                self.state = State::TooLong;
                return Err(too_long());
            }
            if all.len() + piece.len() > max {
                return Err(PluginError::body_too_long());
            }
            all.extend_from_slice(&piece);
        }
        let all = all.freeze();
        self.state = State::Whole(all.clone());
        Ok(all)
    }
}

/// Not [`PluginError::body_too_long`], which a plugin may let pass: the request is refused whatever it does.
fn too_long() -> PluginError {
    PluginError::new("request body is longer than client_max_body_size")
}

fn failed(e: Box<pingora_core::Error>) -> PluginError {
    PluginError::new(format!("request body could not be read: {e}"))
}

#[async_trait]
impl BodySource for Body<'_> {
    async fn read(&mut self, max: usize) -> Result<Bytes, PluginError> {
        match &self.state {
            State::Whole(body) if body.len() > max => Err(PluginError::body_too_long()),
            State::Whole(body) => Ok(body.clone()),
            State::Lost => Err(PluginError::new("request body could not be read")),
            State::TooLong => Err(too_long()),
            State::Unread => self.read_all(max).await,
        }
    }
}

/// Makes the session one that has not read its body yet. `None` when that is not possible.
async fn put_back(session: &mut Session, body: &Bytes) -> Option<()> {
    let nothing = ServerSession::new_http1(Box::new(std::io::Cursor::new(Vec::new())));
    let old = std::mem::replace(&mut *session.downstream_session, nothing);
    let settings = HttpPersistentSettings::for_session(&old);
    let (read, write) = (old.get_read_timeout(), old.get_write_timeout());
    let mut head = old.req_header().clone();
    let ServerSession::H1(old) = old else {
        return None;
    };
    let mut first = b"POST / HTTP/1.1\r\nHost: _\r\nContent-Length: ".to_vec();
    first.extend_from_slice(number(body.len()).as_bytes());
    first.extend_from_slice(b"\r\n\r\n");
    first.extend_from_slice(body);
    let stream = unread(old.into_inner(), &first)?;
    let mut new = ServerSession::new_http1(stream);
    new.set_read_timeout(read);
    new.set_write_timeout(write);
    if !new.read_request().await.ok()? {
        return None;
    }
    head.remove_header(&header::TRANSFER_ENCODING);
    head.insert_header(header::CONTENT_LENGTH, number(body.len()))
        .ok()?;
    *new.req_header_mut() = head;
    settings.apply_to_session(&mut new);
    *session.downstream_session = new;
    Some(())
}

/// Puts bytes in front of a client's stream.
fn unread(stream: Stream, bytes: &[u8]) -> Option<Stream> {
    let any = IO::into_any(stream);
    match any.downcast::<Gate<TcpIo>>() {
        Ok(mut gate) => {
            gate.unread(bytes);
            Some(gate)
        }
        Err(any) => {
            let mut gate = any.downcast::<Gate<SslStream<TcpIo>>>().ok()?;
            gate.unread(bytes);
            Some(gate)
        }
    }
}
