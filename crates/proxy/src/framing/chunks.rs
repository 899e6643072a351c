//! Where a chunked body ends, read strictly (RFC 9112, 7.1).

use super::TOKEN;

/// Follows a chunked body to its end (RFC 9112, 7.1).
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Chunks {
    state: Chunk,
    left: u64,
    /// Digits of the size, or bytes of an extension or of trailers.
    count: u32,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Chunk {
    #[default]
    Size,
    Extension,
    SizeEnd,
    Data,
    DataCr,
    DataLf,
    TrailerStart,
    Trailer,
    TrailerLf,
    EndLf,
    Done,
}

/// A chunked body that is none.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct BadChunk;

impl Chunks {
    /// Follows these bytes: how many of them belong to the body. Fewer than all mean that the body has ended.
    pub(crate) fn advance(&mut self, bytes: &[u8]) -> Result<usize, BadChunk> {
        const LONGEST: u32 = 8192;
        let mut i = 0;
        while i < bytes.len() {
            let b = bytes[i];
            match self.state {
                Chunk::Done => return Ok(i),
                Chunk::Data => {
                    let rest = u64::try_from(bytes.len() - i)
                        .unwrap_or(u64::MAX)
                        .min(self.left);
                    self.left -= rest;
                    i += usize::try_from(rest).unwrap_or(usize::MAX);
                    if self.left == 0 {
                        self.state = Chunk::DataCr;
                    }
                    continue;
                }
                Chunk::Size => match char::from(b).to_digit(16) {
                    Some(d) if self.count < 15 => {
                        self.left = self.left << 4 | u64::from(d);
                        self.count += 1;
                    }
                    None if self.count > 0 && b == b'\r' => self.state = Chunk::SizeEnd,
                    None if self.count > 0 && b == b';' => self.state = Chunk::Extension,
                    _ => return Err(BadChunk),
                },
                Chunk::Extension => match b {
                    b'\r' => self.state = Chunk::SizeEnd,
                    b'\t' | b' '..=0x7e | 0x80.. if self.count < LONGEST => self.count += 1,
                    _ => return Err(BadChunk),
                },
                Chunk::SizeEnd if b == b'\n' => {
                    self.count = 0;
                    self.state = if self.left == 0 {
                        Chunk::TrailerStart
                    } else {
                        Chunk::Data
                    };
                }
                Chunk::DataCr if b == b'\r' => self.state = Chunk::DataLf,
                Chunk::DataLf if b == b'\n' => *self = Chunks::default(),
                Chunk::TrailerStart => match b {
                    b'\r' => self.state = Chunk::EndLf,
                    _ if TOKEN[usize::from(b)] => self.state = Chunk::Trailer,
                    _ => return Err(BadChunk),
                },
                Chunk::Trailer => match b {
                    b'\r' => self.state = Chunk::TrailerLf,
                    b'\t' | b' '..=0x7e | 0x80.. if self.count < LONGEST => self.count += 1,
                    _ => return Err(BadChunk),
                },
                Chunk::TrailerLf if b == b'\n' => self.state = Chunk::TrailerStart,
                Chunk::EndLf if b == b'\n' => self.state = Chunk::Done,
                Chunk::SizeEnd
                | Chunk::DataCr
                | Chunk::DataLf
                | Chunk::TrailerLf
                | Chunk::EndLf => return Err(BadChunk),
            }
            i += 1;
        }
        Ok(i)
    }

    /// Whether the body has ended.
    pub(crate) fn done(&self) -> bool {
        self.state == Chunk::Done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunks(parts: &[&[u8]]) -> Result<(usize, bool), BadChunk> {
        let mut c = Chunks::default();
        let mut n = 0;
        for p in parts {
            n += c.advance(p)?;
        }
        Ok((n, c.done()))
    }

    #[test]
    fn a_chunked_body_is_followed_to_its_end_however_it_is_cut() {
        let body = b"5;a=b\r\nhello\r\n1\r\nx\r\n0\r\nT: 1\r\n\r\n";
        assert_eq!(chunks(&[&body[..], b"GET /"]), Ok((body.len(), true)));
        for n in 0..body.len() {
            assert_eq!(
                chunks(&[&body[..n], &body[n..]]),
                Ok((body.len(), true)),
                "{n}"
            );
        }
        let both = [&body[..], b"GET / HTTP/1.1"].concat();
        assert_eq!(chunks(&[&both]), Ok((body.len(), true)));
    }

    #[test]
    fn malformed_chunks_are_refused() {
        for body in [
            "\r\n",
            "x\r\n",
            "5\nhello",
            "5 \r\nhello\r\n",
            "0x5\r\nhello",
            "5\r\nhelloX",
            "5\r\nhello\n",
            "-1\r\n",
            "1;\0\r\n",
            "fffffffffffffffff\r\n",
            "0\r\n x\r\n\r\n",
            "0\r\n\n",
        ] {
            assert_eq!(chunks(&[body.as_bytes()]), Err(BadChunk), "{body:?}");
        }
    }
}
