//! As much of RFC 6455 as an upstream that echoes frames needs, and a client that talks to it.

use base64::Engine as _;
use sha1::{Digest as _, Sha1};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::echo;
use crate::h1::Request;

/// A text frame's opcode.
pub const TEXT: u8 = 1;
/// A binary frame's opcode.
pub const BINARY: u8 = 2;
/// A closing frame's opcode.
pub const CLOSE: u8 = 8;

/// Whether a request asks for a WebSocket.
pub fn is_upgrade(request: &Request) -> bool {
    let upgrade = request.headers.get("upgrade");
    upgrade.is_some_and(|v| v.eq_ignore_ascii_case("websocket"))
        && request.headers.get("sec-websocket-key").is_some()
}

/// `Sec-WebSocket-Accept` for a `Sec-WebSocket-Key`.
pub fn accept_key(key: &str) -> String {
    let mut sha1 = Sha1::new();
    sha1.update(key.as_bytes());
    sha1.update(b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    base64::engine::general_purpose::STANDARD.encode(sha1.finalize())
}

/// One whole frame; `mask` as clients must.
pub fn frame(opcode: u8, payload: &[u8], mask: bool) -> Vec<u8> {
    let mut out = vec![0x80 | opcode];
    let masked = if mask { 0x80 } else { 0 };
    match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
        (Ok(length @ 0..=125), _) => out.push(masked | length),
        (_, Ok(length)) => {
            out.push(masked | 126);
            out.extend_from_slice(&length.to_be_bytes());
        }
        _ => {
            out.push(masked | 127);
            out.extend_from_slice(&(payload.len() as u64).to_be_bytes());
        }
    }
    let key = if mask {
        [0x12, 0x34, 0x56, 0x78]
    } else {
        [0; 4]
    };
    if mask {
        out.extend_from_slice(&key);
    }
    out.extend(payload.iter().zip(key.iter().cycle()).map(|(b, k)| b ^ k));
    out
}

/// Takes the first frame off `received` when it is whole: its opcode and payload, unmasked.
pub fn take_frame(received: &mut Vec<u8>) -> Option<(u8, Vec<u8>)> {
    let (&first, &second) = (received.first()?, received.get(1)?);
    let (length, mut at) = match second & 0x7f {
        126 => {
            let bytes = received.get(2..4)?.try_into().ok()?;
            (usize::from(u16::from_be_bytes(bytes)), 4)
        }
        127 => {
            let bytes = received.get(2..10)?.try_into().ok()?;
            (usize::try_from(u64::from_be_bytes(bytes)).ok()?, 10)
        }
        length => (usize::from(length), 2),
    };
    let mut key = [0; 4];
    if second & 0x80 != 0 {
        key.copy_from_slice(received.get(at..at + 4)?);
        at += 4;
    }
    let payload = received.get(at..at.checked_add(length)?)?;
    let payload = payload
        .iter()
        .zip(key.iter().cycle())
        .map(|(b, k)| b ^ k)
        .collect();
    received.drain(..at + length);
    Some((first & 0x0f, payload))
}

/// Answers an upgrade, tells the request as the first text frame, then echoes frames until one closes.
pub(crate) async fn serve(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    received: &mut Vec<u8>,
    request: &Request,
) -> std::io::Result<()> {
    let accept = accept_key(request.headers.get("sec-websocket-key").unwrap_or_default());
    let head = format!(
        "HTTP/1.1 101 Switching Protocols\r\nServer: echo/1.0\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await?;
    let mut first = echo::describe(request, "");
    if let Some(fields) = first.as_object_mut() {
        fields.retain(|name, _| matches!(name.as_str(), "path" | "headers"));
    }
    stream
        .write_all(&frame(TEXT, first.to_string().as_bytes(), false))
        .await?;
    loop {
        while let Some((opcode, payload)) = take_frame(received) {
            stream.write_all(&frame(opcode, &payload, false)).await?;
            if opcode == CLOSE {
                return Ok(());
            }
        }
        if stream.read_buf(received).await? == 0 {
            return Ok(());
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_key_of_the_rfc_is_accepted() {
        assert_eq!(
            accept_key("dGhlIHNhbXBsZSBub25jZQ=="),
            "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        );
    }

    #[test]
    fn frames_of_every_length_come_back() {
        for length in [0, 5, 125, 126, 65_535, 65_536] {
            for mask in [false, true] {
                let payload = vec![b'x'; length];
                let mut bytes = frame(BINARY, &payload, mask);
                let mut cut = bytes[..bytes.len() - 1].to_vec();
                if length > 0 {
                    assert_eq!(take_frame(&mut cut), None);
                }
                bytes.push(0x81);
                assert_eq!(take_frame(&mut bytes).unwrap(), (BINARY, payload));
                assert_eq!(bytes, [0x81]);
            }
        }
    }
}
