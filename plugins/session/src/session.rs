//! A session from its opening to its end, apart from where it is kept. (`lib/resty/session.lua` of lua-resty-session 4.0.5.)

use std::borrow::Cow;

use http::{HeaderMap, HeaderValue};
use serde_json::{Value, json};
use silverback_plugin::cookie;

use crate::cookies::{self, Attributes, Lasting, SetCookie};
use crate::parts::{self, Part};
use crate::seal::{FORGET, Header, STORED, SealError, Secret, Strength, key, seal};

/// Nothing lasts longer than 400 days.
const MOST_TTL: u64 = 34_560_000;
/// A session says when it was last used only when that was so many seconds ago.
const TOUCH_AFTER: f64 = 60.0;

/// What a configuration says of its sessions. Times are in seconds, 0 for without end.
#[derive(Debug)]
pub(crate) struct Terms {
    pub(crate) secret: Secret,
    /// Whether they are kept in the database.
    pub(crate) stored: bool,
    pub(crate) audience: String,
    pub(crate) idling_timeout: f64,
    pub(crate) stale_ttl: f64,
    pub(crate) usual: Cookie,
    /// The cookie that outlives the browser, where there is to be one.
    pub(crate) remember: Option<Cookie>,
    pub(crate) attributes: Attributes,
}

/// One of the two cookies.
#[derive(Debug)]
pub(crate) struct Cookie {
    pub(crate) name: String,
    pub(crate) rolling_timeout: f64,
    pub(crate) absolute_timeout: f64,
    pub(crate) kind: Kind,
}

/// Which of the two cookies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Usual,
    Remember,
}

/// A cookie of a request that is genuine and in time. What it holds is not read yet.
pub(crate) struct Shown<'r> {
    header: Header,
    /// The cookie's value.
    text: &'r [u8],
}

/// A session that a request has, or that it is about to have.
#[derive(Debug)]
pub(crate) struct Session {
    /// One part for each audience.
    parts: Vec<Part>,
    mine: usize,
    /// How it was last kept; `None` when it was not.
    kept: Option<Kept>,
    remembered: Option<Header>,
    /// When it was read or kept.
    pub(crate) at: u64,
}

#[derive(Debug)]
struct Kept {
    header: Header,
    /// What the first cookie holds behind the header.
    first: String,
}

/// What has to happen in the database.
#[derive(Debug, PartialEq)]
pub(crate) enum Deed {
    /// Keep a session.
    Put {
        key: String,
        data: String,
        ttl: i64,
        now: u64,
        /// The session that it takes the place of, and for how long that is still good: not at all when `None`.
        replaces: Option<(String, Option<i64>)>,
    },
    /// Forget one.
    Remove { key: String },
}

/// What changes for the browser and in the database. The cookies are only for a browser whose session is in the database as well.
#[derive(Debug, Default)]
pub(crate) struct Effects {
    pub(crate) cookies: Vec<SetCookie>,
    pub(crate) deeds: Vec<Deed>,
}

impl Effects {
    fn and(&mut self, other: Effects) {
        self.cookies.extend(other.cookies);
        self.deeds.extend(other.deeds);
    }
}

impl Cookie {
    /// What a request shows of this cookie, when it is genuine and in time; else why not.
    pub(crate) fn shown<'r>(
        &self,
        terms: &Terms,
        headers: &'r HeaderMap,
        now: u64,
    ) -> Result<Shown<'r>, Cow<'static, str>> {
        let text = cookie::find(headers, &self.name).ok_or("there is no cookie")?;
        let header = Header::parse(text).map_err(|e| e.to_string())?;
        if (header.flags & STORED != 0) != terms.stored {
            return Err("it is kept elsewhere".into());
        }
        let whole = elapsed(now, header.created);
        let rolling = whole - header.rolled as f64;
        if exceeds(whole, self.absolute_timeout) {
            return Err("its absolute timeout is over".into());
        }
        if exceeds(rolling, self.rolling_timeout) {
            return Err("its rolling timeout is over".into());
        }
        match self.kind {
            Kind::Remember if header.idled != 0 => return Err("it is no such cookie".into()),
            Kind::Usual if exceeds(rolling - header.idled as f64, terms.idling_timeout) => {
                return Err("its idling timeout is over".into());
            }
            _ => {}
        }
        match header.is_genuine(&terms.secret) {
            Ok(true) => Ok(Shown { header, text }),
            Ok(false) => Err(SealError::Forged.to_string().into()),
            Err(e) => Err(e.to_string().into()),
        }
    }

    fn strength(&self) -> Strength {
        match self.kind {
            Kind::Usual => Strength::Usual,
            Kind::Remember => Strength::Slow,
        }
    }
}

impl Shown<'_> {
    /// What it is found by in the database.
    pub(crate) fn key(&self) -> String {
        self.header.key()
    }

    /// What the cookies hold; `None` when one of several is missing.
    pub(crate) fn payload(&self, name: &str, headers: &HeaderMap) -> Option<String> {
        let size = usize::try_from(self.header.size).ok()?;
        let payload = cookies::payload(headers, name, self.text, size)?;
        String::from_utf8(payload.into_owned()).ok()
    }

    /// Reads it. A session that other audiences know and this one does not is no session yet: `Err` with what it will be.
    pub(crate) fn read(
        self,
        terms: &Terms,
        cookie: &Cookie,
        payload: &str,
        now: u64,
    ) -> Result<Result<Session, Session>, SealError> {
        let plain = (self.header).open(payload.as_bytes(), &terms.secret, cookie.strength())?;
        let mut parts = parts::read(&plain).ok_or(SealError::Malformed)?;
        let mine = parts.iter().position(|p| p.audience == terms.audience);
        if mine.is_none() {
            parts.push(Part::new(&terms.audience));
        }
        let (kept, remembered) = match cookie.kind {
            Kind::Usual => {
                let first = self.text.get(crate::seal::HEADER_TEXT..);
                let first = first.and_then(|t| std::str::from_utf8(t).ok());
                let kept = Kept {
                    header: self.header,
                    first: first.unwrap_or_default().to_owned(),
                };
                (Some(kept), None)
            }
            Kind::Remember => (None, Some(self.header)),
        };
        let session = Session {
            mine: mine.unwrap_or(parts.len() - 1),
            parts,
            kept,
            remembered,
            at: now,
        };
        Ok(match mine {
            Some(_) => Ok(session),
            None => Err(session),
        })
    }
}

impl Session {
    /// One that nobody has yet.
    pub(crate) fn new(terms: &Terms, now: u64) -> Self {
        Session {
            parts: vec![Part::new(&terms.audience)],
            mine: 0,
            kept: None,
            remembered: None,
            at: now,
        }
    }

    /// The member of its data at that place, where it is a text.
    pub(crate) fn text(&self, at: usize) -> Option<&str> {
        self.data().get(at)?.as_str()
    }

    /// The groups that the caller was found to be in.
    pub(crate) fn groups(&self) -> Option<Vec<Box<str>>> {
        let groups = self.data().get(2)?.as_array()?;
        let texts = groups.iter().filter_map(Value::as_str);
        Some(texts.map(Into::into).collect())
    }

    /// Says whose it is: consumer, credential, groups.
    pub(crate) fn assign(
        &mut self,
        consumer: &str,
        credential: &str,
        groups: Option<&[Box<str>]>,
        subject: &str,
    ) {
        let part = &mut self.parts[self.mine];
        part.data = match groups {
            Some(groups) => json!([consumer, credential, groups]),
            None => json!([consumer, credential]),
        };
        part.subject = Some(subject.to_owned());
    }

    /// Keeps it, as a new session or in place of the one it was; with it what outlives the browser.
    pub(crate) fn save(
        &mut self,
        terms: &Terms,
        headers: &HeaderMap,
        now: u64,
    ) -> Result<Effects, SealError> {
        let mut effects = self.keep(terms, &terms.usual, now)?;
        if let Some(remember) = self.remembers(terms) {
            if self.remembered.is_none() {
                let shown = remember.shown(terms, headers, now).ok();
                self.remembered = shown.map(|s| s.header);
            }
            effects.and(self.keep(terms, remember, now)?);
        }
        Ok(effects)
    }

    /// Keeps what was read from the cookie that outlives the browser, under a new id, and makes a session of it.
    pub(crate) fn resume(
        &mut self,
        terms: &Terms,
        remember: &Cookie,
        now: u64,
    ) -> Result<Effects, SealError> {
        let mut effects = self.keep(terms, remember, now)?;
        effects.and(self.keep(terms, &terms.usual, now)?);
        Ok(effects)
    }

    /// Replaces it when it is old, or notes that it was used.
    pub(crate) fn refresh(&mut self, terms: &Terms, now: u64) -> Result<Effects, SealError> {
        let Some(kept) = &mut self.kept else {
            return Ok(Effects::default());
        };
        let rolling = elapsed(now, kept.header.created) - kept.header.rolled as f64;
        let timeout = terms.usual.rolling_timeout;
        if timeout > 0.0 && rolling > (timeout * 0.75).ceil() {
            return self.keep(terms, &terms.usual, now);
        }
        let mut effects = Effects::default();
        if terms.idling_timeout > 0.0 && rolling - kept.header.idled as f64 > TOUCH_AFTER {
            kept.header.touch(rolling as u64, &terms.secret)?;
            let first = if terms.stored { "" } else { &kept.first };
            let name = &terms.usual.name;
            let cookie = cookies::touched(name, &kept.header, first, &terms.attributes);
            effects.cookies.extend(cookie);
        }
        Ok(effects)
    }

    /// Ends it for this audience, and for good when there is no other.
    pub(crate) fn log_out(
        mut self,
        terms: &Terms,
        headers: &HeaderMap,
        now: u64,
    ) -> Result<Effects, SealError> {
        if self.parts.len() > 1 {
            self.parts.remove(self.mine);
            return self.save(terms, headers, now);
        }
        let remember = self.remembers(terms);
        let kept = self.kept.map(|k| k.header);
        let mut effects = removed(terms, &terms.usual, kept.as_ref());
        if let Some(remember) = remember {
            let shown = || remember.shown(terms, headers, now).ok().map(|s| s.header);
            if let Some(header) = self.remembered.or_else(shown) {
                effects.and(removed(terms, remember, Some(&header)));
            }
        }
        Ok(effects)
    }

    /// What a property of it is; `None` when it has none.
    pub(crate) fn property(&self, terms: &Terms, name: Property) -> Option<HeaderValue> {
        let header = self.kept.as_ref().map(|k| &k.header);
        let part = &self.parts[self.mine];
        let whole = elapsed(self.at, header.map_or(self.at, |h| h.created));
        let rolling = whole - header.map_or(0, |h| h.rolled) as f64;
        let idling = rolling - header.map_or(0, |h| h.idled) as f64;
        let left = |timeout: f64, elapsed: f64| (timeout > 0.0).then_some(timeout - elapsed);
        let idling = left(terms.idling_timeout, idling);
        let rolling = left(terms.usual.rolling_timeout, rolling);
        let absolute = left(terms.usual.absolute_timeout, whole);
        let seconds = match name {
            Property::Id => return HeaderValue::from_str(&key(&header?.id)).ok(),
            Property::Audience => return HeaderValue::from_str(&part.audience).ok(),
            Property::Subject => return HeaderValue::from_str(part.subject.as_deref()?).ok(),
            Property::Timeout => {
                let all = [idling, rolling, absolute].into_iter().flatten();
                all.reduce(f64::min)
            }
            Property::IdlingTimeout => idling,
            Property::RollingTimeout => rolling,
            Property::AbsoluteTimeout => absolute,
        };
        HeaderValue::from_str(&seconds?.to_string()).ok()
    }

    fn data(&self) -> &Value {
        &self.parts[self.mine].data
    }

    fn remembers<'t>(&self, terms: &'t Terms) -> Option<&'t Cookie> {
        let forget = |k: &Kept| k.header.flags & FORGET != 0;
        let remember = terms.remember.as_ref()?;
        (!self.kept.as_ref().is_some_and(forget)).then_some(remember)
    }

    /// Seals it under a new id.
    fn keep(&mut self, terms: &Terms, cookie: &Cookie, now: u64) -> Result<Effects, SealError> {
        let before = match cookie.kind {
            Kind::Usual => self.kept.as_ref().map(|k| &k.header),
            Kind::Remember => self.remembered.as_ref(),
        };
        let created = before.map_or(now, |h| h.created);
        let mut flags = before.map_or(0, |h| h.flags & FORGET);
        if terms.stored {
            flags |= STORED;
        }
        let plain = parts::write(&self.parts);
        let rolled = now.saturating_sub(created);
        let sealed = seal(
            plain.as_bytes(),
            flags,
            created,
            rolled,
            &terms.secret,
            cookie.strength(),
        );
        let (header, payload) = sealed?;
        let lasting = match cookie.kind {
            Kind::Usual => Lasting::Session,
            Kind::Remember => {
                let age = lasts(cookie.rolling_timeout);
                let end = created.saturating_add(age);
                Lasting::Until { age, end }
            }
        };
        let (in_cookie, size_before) = match terms.stored {
            true => ("", None),
            false => (&*payload, before.and_then(|h| usize::try_from(h.size).ok())),
        };
        let cookies = cookies::make(
            &cookie.name,
            &header,
            in_cookie,
            &terms.attributes,
            lasting,
            size_before,
        );
        let mut effects = Effects {
            cookies: cookies.ok_or(SealError::TooLong)?,
            deeds: Vec::new(),
        };
        if terms.stored {
            let stale = match cookie.kind {
                Kind::Usual => Some(terms.stale_ttl.ceil() as i64).filter(|ttl| *ttl > 0),
                Kind::Remember => None,
            };
            effects.deeds.push(Deed::Put {
                key: header.key(),
                data: json!([payload]).to_string(),
                ttl: lasts(cookie.rolling_timeout) as i64,
                now,
                replaces: before.map(|h| (h.key(), stale)),
            });
        }
        match cookie.kind {
            Kind::Usual => {
                let first = in_cookie.to_owned();
                self.kept = Some(Kept { header, first });
            }
            Kind::Remember => self.remembered = Some(header),
        }
        self.at = now;
        Ok(effects)
    }
}

/// What headers can tell of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Property {
    Id,
    Audience,
    Subject,
    Timeout,
    IdlingTimeout,
    RollingTimeout,
    AbsoluteTimeout,
}

fn removed(terms: &Terms, cookie: &Cookie, header: Option<&Header>) -> Effects {
    let size = match header {
        Some(header) if !terms.stored => usize::try_from(header.size).unwrap_or(0),
        _ => 0,
    };
    let deed = header
        .filter(|_| terms.stored)
        .map(|header| Deed::Remove { key: header.key() });
    Effects {
        cookies: cookies::remove(&cookie.name, size, &terms.attributes),
        deeds: deed.into_iter().collect(),
    }
}

fn lasts(timeout: f64) -> u64 {
    // Not a number of seconds, or more than can be: as long as can be.
    match timeout.ceil() {
        t if t > 0.0 && t <= MOST_TTL as f64 => t as u64,
        _ => MOST_TTL,
    }
}

fn exceeds(elapsed: f64, timeout: f64) -> bool {
    timeout != 0.0 && elapsed > timeout
}

fn elapsed(now: u64, since: u64) -> f64 {
    now as f64 - since as f64
}
