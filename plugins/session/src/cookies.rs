//! How a session stands in cookies: their attributes, and how a long one is cut into several.

use std::borrow::Cow;
use std::sync::LazyLock;
use std::time::{Duration, UNIX_EPOCH};

use http::header::SET_COOKIE;
use http::{HeaderMap, HeaderValue};
use silverback_plugin::{HeaderKey, ResponseHead, cookie};

use crate::seal::{HEADER_TEXT, Header};

/// What browsers take in one cookie.
const MOST: usize = 4096;
/// How many cookies a session may take.
const MOST_COOKIES: usize = 9;

static SET_COOKIE_KEY: LazyLock<HeaderKey> = LazyLock::new(|| HeaderKey::from_static("Set-Cookie"));

/// A cookie for the browser.
#[derive(Debug, Clone)]
pub(crate) struct SetCookie {
    name: String,
    value: HeaderValue,
}

impl SetCookie {
    /// Puts it into a response, in place of one of the same name that is there already.
    pub(crate) fn put(self, head: &mut dyn ResponseHead) {
        let others = head.headers().get_all(SET_COOKIE).iter();
        let (same, others): (Vec<_>, Vec<_>) = others.cloned().partition(|v| is_of(v, &self.name));
        if !same.is_empty() {
            head.remove(&SET_COOKIE);
            for other in others {
                head.append(&SET_COOKIE_KEY, other);
            }
        }
        head.append(&SET_COOKIE_KEY, self.value);
    }

    /// Name and value of the header.
    pub(crate) fn header(self) -> (HeaderKey, HeaderValue) {
        (SET_COOKIE_KEY.clone(), self.value)
    }
}

fn is_of(value: &HeaderValue, name: &str) -> bool {
    let rest = value.as_bytes().strip_prefix(name.as_bytes());
    rest.is_some_and(|rest| rest.starts_with(b"="))
}

/// What all cookies of a configuration have in common.
#[derive(Debug)]
pub(crate) struct Attributes(String);

impl Attributes {
    pub(crate) fn new(
        domain: Option<&str>,
        path: &str,
        same_site: &str,
        secure: bool,
        http_only: bool,
    ) -> Self {
        let mut out = String::new();
        if let Some(domain) = domain.filter(|d| !["", "localhost"].contains(d)) {
            out.push_str(&format!("; Domain={domain}"));
        }
        out.push_str(&format!("; Path={path}; SameSite={same_site}"));
        // Browsers take no other cookies for all sites.
        if secure || same_site == "None" {
            out.push_str("; Secure");
        }
        if http_only {
            out.push_str("; HttpOnly");
        }
        Attributes(out)
    }

    /// Whether they can be part of a header.
    pub(crate) fn are_valid(&self) -> bool {
        HeaderValue::from_str(&self.0).is_ok()
    }
}

/// How long a browser keeps a cookie.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Lasting {
    /// Until it is closed.
    Session,
    /// For some seconds, and until a moment in seconds since 1970.
    Until { age: u64, end: u64 },
}

/// The cookies of a session. `payload` is what stands in them behind the header: nothing when it is in the database. `before` is the length
/// of the payload that the browser had until now: cookies that are no longer needed are taken away. `None` when it is too long.
pub(crate) fn make(
    name: &str,
    header: &Header,
    payload: &str,
    attributes: &Attributes,
    lasting: Lasting,
    before: Option<usize>,
) -> Option<Vec<SetCookie>> {
    let count = count(name, payload.len())?;
    let mut end = attributes.0.clone();
    if let Lasting::Until { age, end: until } = lasting {
        let until = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(until));
        end.push_str(&format!("; Expires={until}; Max-Age={age}"));
    }
    let mut out = Vec::with_capacity(count);
    let first = first_piece(name, payload, count);
    let mut rest = &payload[first.len()..];
    push(&mut out, name, &(header.text() + first), &end);
    for n in 2..=count {
        let (piece, left) = rest.split_at(rest.len().min(MOST - name.len() - 2));
        push(&mut out, &format!("{name}{n}"), piece, &end);
        rest = left;
    }
    let had = before.and_then(|size| self::count(name, size)).unwrap_or(1);
    out.extend(expired(name, count + 1..=had, attributes));
    Some(out)
}

/// The first cookie alone, with another header: what it holds of the payload stays.
pub(crate) fn touched(
    name: &str,
    header: &Header,
    first: &str,
    attributes: &Attributes,
) -> Option<SetCookie> {
    let mut out = Vec::with_capacity(1);
    push(&mut out, name, &(header.text() + first), &attributes.0);
    out.pop()
}

/// Takes away the cookies of a session whose payload is so long.
pub(crate) fn remove(name: &str, size: usize, attributes: &Attributes) -> Vec<SetCookie> {
    let count = count(name, size).unwrap_or(MOST_COOKIES);
    expired(name, 1..=count, attributes).collect()
}

/// The payload that a request shows: what is in the first cookie, and the whole. `None` when a part is missing.
pub(crate) fn payload<'a>(
    headers: &'a HeaderMap,
    name: &str,
    first: &'a [u8],
    size: usize,
) -> Option<Cow<'a, [u8]>> {
    let first = first.get(HEADER_TEXT..)?;
    let count = count(name, size)?;
    if count == 1 {
        return Some(first.into());
    }
    let mut whole = first.to_vec();
    for n in 2..=count {
        whole.extend_from_slice(cookie::find(headers, &format!("{name}{n}"))?);
    }
    Some(whole.into())
}

/// How many cookies a payload of that length takes.
fn count(name: &str, size: usize) -> Option<usize> {
    let mut space = name.len() + 1 + HEADER_TEXT + size;
    for n in 1..=MOST_COOKIES {
        if space <= MOST * n {
            return Some(n);
        }
        space += name.len() + 2;
    }
    None
}

fn first_piece<'p>(name: &str, payload: &'p str, count: usize) -> &'p str {
    match count {
        1 => payload,
        // The payload is base64, and longer than what goes into one cookie.
        _ => &payload[..MOST.saturating_sub(HEADER_TEXT + name.len() + 1)],
    }
}

fn expired<'a>(
    name: &'a str,
    numbers: std::ops::RangeInclusive<usize>,
    attributes: &'a Attributes,
) -> impl Iterator<Item = SetCookie> + 'a {
    let end = format!(
        "{}; Expires=Thu, 01 Jan 1970 00:00:01 GMT; Max-Age=0",
        attributes.0
    );
    numbers.filter_map(move |n| {
        let name = match n {
            1 => name.to_owned(),
            n => format!("{name}{n}"),
        };
        let mut out = Vec::with_capacity(1);
        push(&mut out, &name, "", &end);
        out.pop()
    })
}

fn push(out: &mut Vec<SetCookie>, name: &str, value: &str, attributes: &str) {
    // Names and attributes were looked at when the configuration was compiled; the rest is base64.
    if let Ok(header) = HeaderValue::from_str(&[name, "=", value, attributes].concat()) {
        out.push(SetCookie {
            name: name.to_owned(),
            value: header,
        });
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use http::header::COOKIE;

    use super::*;
    use crate::seal::{Secret, Strength, seal};

    fn texts(cookies: Vec<SetCookie>) -> Vec<String> {
        let text = |c: SetCookie| c.value.to_str().unwrap().to_owned();
        cookies.into_iter().map(text).collect()
    }

    #[test]
    fn a_long_session_takes_several_cookies_and_comes_back_whole() {
        let secret = Secret::new("s").unwrap();
        // Random bytes cannot be compressed.
        let mut plain = vec![0; 8000];
        openssl::rand::rand_bytes(&mut plain).unwrap();
        let (header, payload) = seal(&plain, 0, 1, 0, &secret, Strength::Usual).unwrap();
        let attributes = Attributes::new(None, "/", "Lax", false, true);
        let made = make(
            "sid",
            &header,
            &payload,
            &attributes,
            Lasting::Session,
            None,
        );
        let made = texts(made.unwrap());
        assert_eq!(made.len(), 3);
        let mut headers = HeaderMap::new();
        for (text, name) in made.iter().zip(["sid=", "sid2=", "sid3="]) {
            assert!(text.starts_with(name), "{text}");
            let pair = text.split("; ").next().unwrap();
            assert!(pair.len() <= MOST, "{}", pair.len());
            headers.append(COOKIE, pair.parse().unwrap());
        }
        let first = cookie::find(&headers, "sid").unwrap();
        let whole = super::payload(&headers, "sid", first, payload.len()).unwrap();
        assert_eq!(*whole, *payload.as_bytes());

        // A shorter one takes the others away.
        let (header, short) = seal(b"x", 0, 1, 0, &secret, Strength::Usual).unwrap();
        let before = Some(payload.len());
        let made = make(
            "sid",
            &header,
            &short,
            &attributes,
            Lasting::Session,
            before,
        );
        let made = texts(made.unwrap());
        assert_eq!(
            made[1..],
            [
                "sid2=; Path=/; SameSite=Lax; HttpOnly; Expires=Thu, 01 Jan 1970 00:00:01 GMT; Max-Age=0",
                "sid3=; Path=/; SameSite=Lax; HttpOnly; Expires=Thu, 01 Jan 1970 00:00:01 GMT; Max-Age=0"
            ]
        );
        assert_eq!(remove("sid", payload.len(), &attributes).len(), 3);
        assert!(count("sid", 9 * MOST).is_none());
    }

    #[test]
    fn attributes_are_those_of_the_configuration() {
        for (attributes, text) in [
            (
                Attributes::new(Some("x.test"), "/a", "Strict", true, false),
                "; Domain=x.test; Path=/a; SameSite=Strict; Secure",
            ),
            (
                Attributes::new(Some("localhost"), "/", "None", false, true),
                "; Path=/; SameSite=None; Secure; HttpOnly",
            ),
        ] {
            assert_eq!(attributes.0, text);
        }
    }
}
