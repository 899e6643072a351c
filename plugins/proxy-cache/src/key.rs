//! Which requests are the same. Learnt from `kong/plugins/proxy-cache/cache_key.lua`: the key is the SHA-256 of a text made of consumer, route, method,
//! request line, query arguments and headers, and is the same as Kong's.
//!
//! The text does not tell `?a=1&b=2` from `?a=1%3Ab%3D2`, so that somebody could have the answer to one kept as that to the other. So it is remembered
//! where the text was cut, and an answer is only found when the cuts are the same as well.

use std::borrow::Cow;

use http::{HeaderName, Version};
use openssl::sha::Sha256;
use silverback_plugin::{AccessCtx, ConfigError};
use smallvec::SmallVec;

use crate::config::Config;

/// What the name of an answer is made of.
pub(crate) struct KeyMaker {
    /// Empty: all arguments count.
    arguments: Vec<Box<[u8]>>,
    /// As configured, and as looked for.
    headers: Vec<(Box<str>, HeaderName)>,
    ignore_case: bool,
}

/// The name of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    /// The SHA-256.
    pub(crate) digest: Digest,
    /// The SHA-256 of where what it was made from was cut: of one length however many arguments there were, for it is kept with the answer.
    pub(crate) cuts: Digest,
}

/// A SHA-256.
pub(crate) type Digest = [u8; 32];

/// Lengths of pieces, each with what it is the length of.
type Cuts = SmallVec<[[u8; 4]; 8]>;

/// A name, and a value where there is one.
type Argument<'a> = (Cow<'a, [u8]>, Option<Cow<'a, [u8]>>);

#[derive(Clone, Copy)]
enum Piece {
    Line,
    Name,
    Value,
    /// An argument without `=`.
    Bare,
}

impl KeyMaker {
    /// As configured.
    pub(crate) fn new(config: &Config) -> Result<Self, ConfigError> {
        let headers = config.vary_headers.iter().flatten().map(|name| {
            // Underscores stand for dashes when headers are looked for (`ngx.req.get_headers`).
            let wanted = HeaderName::from_bytes(name.replace('_', "-").as_bytes());
            wanted.map(|wanted| (name.as_str().into(), wanted))
        });
        let headers = headers.collect::<Result<_, _>>();
        let arguments = config.vary_query_params.iter().flatten();
        Ok(KeyMaker {
            arguments: arguments.map(|a| a.as_bytes().into()).collect(),
            headers: headers
                .map_err(|_| ConfigError::new("vary_headers", "has what is no name of a header"))?,
            ignore_case: config.ignore_uri_case == Some(true),
        })
    }

    /// The key of a request.
    pub(crate) fn make(&self, ctx: &AccessCtx<'_>) -> Key {
        let mut text = Text::default();
        text.place(ctx);
        text.line(ctx, self.ignore_case);
        text.put(b"|");
        let query = ctx.upstream.query.as_ref().map(String::as_bytes);
        let query = query.or_else(|| ctx.request.query()).unwrap_or_default();
        if !query.is_empty() {
            text.arguments(arguments(query), &self.arguments);
        }
        text.put(b"|");
        let mut is_first = true;
        for (name, wanted) in &self.headers {
            let values = ctx.header_values(wanted);
            if values.is_empty() {
                continue;
            }
            if !std::mem::take(&mut is_first) {
                text.put(b":");
            }
            let values: SmallVec<[Option<&[u8]>; 2]> =
                values.iter().map(|v| Some(v.as_bytes())).collect();
            text.named(name.as_bytes(), values);
        }
        Key {
            digest: sha256(&text.bytes),
            cuts: sha256(text.cuts.as_flattened()),
        }
    }
}

/// In three steps, because OpenSSL's one-step function looks the algorithm up each time, under a lock.
pub(crate) fn sha256(bytes: &[u8]) -> Digest {
    let mut sha = Sha256::new();
    sha.update(bytes);
    sha.finish()
}

/// The digest that 64 hexadecimal digits stand for.
pub(crate) fn digest_of(text: &str) -> Option<Digest> {
    let mut digest = Digest::default();
    let pairs = text.as_bytes().chunks_exact(2);
    if text.len() != 2 * digest.len() || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    for (byte, pair) in digest.iter_mut().zip(pairs) {
        let pair = std::str::from_utf8(pair).ok()?;
        *byte = u8::from_str_radix(pair, 16).ok()?;
    }
    Some(digest)
}

/// The hexadecimal digits of a digest, in small letters.
pub(crate) fn hex(digest: &Digest) -> [u8; 64] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = [0; 64];
    for (pair, byte) in text.chunks_exact_mut(2).zip(digest) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
    text
}

/// What the digest is made of.
#[derive(Default)]
struct Text {
    bytes: SmallVec<[u8; 512]>,
    cuts: Cuts,
}

impl Text {
    fn put(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    fn cut(&mut self, piece: Piece, len: usize) {
        // Nothing in a request is nearly as long.
        let len = u32::try_from(len).unwrap_or(u32::MAX) << 2;
        self.cuts.push((len | piece as u32).to_le_bytes());
    }

    /// Consumer and route.
    fn place(&mut self, ctx: &AccessCtx<'_>) {
        let mut id = [0; 36];
        match (ctx.facts.consumer.as_ref(), ctx.route) {
            (_, None) => self.put(b"default"),
            (consumer, Some(route)) => {
                if let Some(consumer) = consumer {
                    self.put(consumer.id.as_hyphenated().encode_lower(&mut id).as_bytes());
                    self.put(b":");
                }
                self.put(route.id.as_hyphenated().encode_lower(&mut id).as_bytes());
            }
        }
    }

    /// The method and the request line up to the query, if it has one, or else as a whole.
    fn line(&mut self, ctx: &AccessCtx<'_>, ignore_case: bool) {
        let parts = ctx.request.parts;
        let method = ctx.upstream.method.as_ref().unwrap_or(&parts.method);
        self.put(b"|");
        self.put(method.as_str().as_bytes());
        self.put(b"|");
        let begin = self.bytes.len();
        self.put(parts.method.as_str().as_bytes());
        self.put(b" ");
        self.put(ctx.request.path());
        if ctx.request.query().is_none() {
            self.put(match parts.version {
                Version::HTTP_09 => b" HTTP/0.9",
                Version::HTTP_10 => b" HTTP/1.0",
                Version::HTTP_2 => b" HTTP/2.0",
                Version::HTTP_3 => b" HTTP/3.0",
                _ => b" HTTP/1.1",
            });
        }
        if ignore_case {
            self.bytes[begin..].make_ascii_lowercase();
        }
        self.cut(Piece::Line, self.bytes.len() - begin);
    }

    /// The wanted arguments, or all of them in order; arguments of one name together.
    fn arguments(&mut self, mut all: SmallVec<[Argument<'_>; 8]>, wanted: &[Box<[u8]>]) {
        all.sort_unstable();
        let mut is_first = true;
        let mut put = |text: &mut Self, same: &[Argument<'_>]| {
            let Some((name, _)) = same.first() else {
                return;
            };
            if !std::mem::take(&mut is_first) {
                text.put(b":");
            }
            text.named(name, same.iter().map(|(_, v)| v.as_deref()).collect());
        };
        if wanted.is_empty() {
            for same in all.chunk_by(|a, b| a.0 == b.0) {
                put(self, same);
            }
        }
        for name in wanted {
            let begin = all.partition_point(|a| *a.0 < **name);
            let end = all.partition_point(|a| *a.0 <= **name);
            put(self, &all[begin..end]);
        }
    }

    /// `name=value,value`, or the name alone.
    fn named(&mut self, name: &[u8], mut values: SmallVec<[Option<&[u8]>; 2]>) {
        self.put(name);
        self.cut(Piece::Name, name.len());
        if values.as_slice() == [None] {
            self.cut(Piece::Bare, 0);
            return;
        }
        values.sort_unstable();
        let mut before: &[u8] = b"=";
        for value in values {
            self.put(std::mem::replace(&mut before, b","));
            self.put(value.unwrap_or_default());
            let piece = if value.is_some() {
                Piece::Value
            } else {
                Piece::Bare
            };
            self.cut(piece, value.map_or(0, <[u8]>::len));
        }
    }
}

/// The arguments of a query, decoded.
fn arguments(query: &[u8]) -> SmallVec<[Argument<'_>; 8]> {
    let pairs = query.split(|b| *b == b'&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let mut parts = pair.splitn(2, |b| *b == b'=');
            let name = decoded(parts.next().unwrap_or_default());
            (name, parts.next().map(decoded))
        })
        .collect()
}

fn decoded(text: &[u8]) -> Cow<'_, [u8]> {
    if text.contains(&b'+') {
        let spaced: Vec<u8> = text
            .iter()
            .map(|b| if *b == b'+' { b' ' } else { *b })
            .collect();
        return Cow::Owned(percent_encoding::percent_decode(&spaced).collect());
    }
    percent_encoding::percent_decode(text).into()
}
