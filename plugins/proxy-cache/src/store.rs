//! Answers that are kept, in a bounded amount of memory. Learnt from `kong/plugins/proxy-cache/strategies/memory.lua`.
//!
//! Kong's nginx has dictionaries of a fixed size, of which each configuration names one. Here a dictionary is a map in pieces, each with a lock that is
//! held for a look-up; answers that were asked for again stay longest.

use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use http::{HeaderValue, StatusCode};
use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{DefaultHashBuilder, OptionsBuilder, Weighter};
use serde_json::{Map, Value, json};
use silverback_plugin::HeaderKey;

use crate::key::Digest;

/// How much a dictionary holds: as Kong's with its default `mem_cache_size`.
const ROOM: u64 = 128 * 1024 * 1024;
/// Parts with a lock each. Few enough for a part to hold several answers of the largest size.
const PARTS: usize = 8;
/// The largest body that is kept.
pub(crate) const LARGEST: usize = 8 * 1024 * 1024;
/// What a map entry costs beside what is in it, more or less.
const OVERHEAD: u64 = 256;
/// For the first guess of how many answers there will be.
const USUAL: u64 = 16 * 1024;

/// An answer that is kept.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    pub(crate) cuts: Digest,
    pub(crate) status: StatusCode,
    /// Headers that are sent again.
    pub(crate) headers: Box<[(HeaderKey, HeaderValue)]>,
    /// Headers that were of that one exchange.
    pub(crate) once: Box<[(HeaderKey, HeaderValue)]>,
    /// What both weigh.
    pub(crate) head_size: usize,
    pub(crate) body: Bytes,
    /// When it came, in seconds since 1970.
    pub(crate) at: u64,
    /// For how many seconds it is good.
    pub(crate) ttl: u64,
    /// When it is forgotten.
    pub(crate) until: Option<SystemTime>,
    pub(crate) must_revalidate: bool,
    /// Whether the request that it answered had no body.
    pub(crate) bare_request: bool,
}

/// A dictionary.
pub(crate) struct Dictionary(Cache<Digest, Arc<Kept>, Weight>);

#[derive(Clone)]
struct Weight;

impl Kept {
    /// How many seconds old it is.
    pub(crate) fn age(&self, now: u64) -> u64 {
        now.saturating_sub(self.at)
    }

    /// As Kong shows it.
    pub(crate) fn to_json(&self) -> Value {
        let mut headers = Map::new();
        for (key, value) in self.headers.iter().chain(&self.once) {
            let name = String::from_utf8_lossy(key.wire());
            let value = Value::from(String::from_utf8_lossy(value.as_bytes()));
            match headers.get_mut(&*name) {
                None => drop(headers.insert(name.into_owned(), value)),
                Some(Value::Array(values)) => values.push(value),
                Some(one) => *one = Value::Array(vec![one.take(), value]),
            }
        }
        let mut shown = json!({
            "status": self.status.as_u16(),
            "headers": headers,
            "body": String::from_utf8_lossy(&self.body),
            "body_len": self.body.len(),
            "timestamp": self.at,
            "ttl": self.ttl,
            "version": 1,
        });
        if self.bare_request {
            shown["req_body"] = "".into();
        }
        shown
    }
}

impl Dictionary {
    /// An empty one.
    pub(crate) fn new() -> Self {
        Self::with_room(ROOM, PARTS)
    }

    fn with_room(room: u64, parts: usize) -> Self {
        let options = OptionsBuilder::new()
            .estimated_items_capacity((room / USUAL) as usize)
            .weight_capacity(room)
            .shards(parts)
            .build()
            .expect("room and number of answers are all that has to be said");
        Dictionary(Cache::with_options(
            options,
            Weight,
            DefaultHashBuilder::default(),
            DefaultLifecycle::default(),
        ))
    }

    /// What is kept under a digest, unless it is to be forgotten by now.
    pub(crate) fn get(&self, digest: &Digest, now: SystemTime) -> Option<Arc<Kept>> {
        let is_over = |kept: &Kept| kept.until.is_some_and(|until| now >= until);
        let kept = self.0.get(digest)?;
        if is_over(&kept) {
            self.0.remove_if(digest, |kept| is_over(kept));
            return None;
        }
        Some(kept)
    }

    /// Keeps an answer, and forgets others when there is no room.
    pub(crate) fn put(&self, digest: Digest, kept: Kept) {
        self.0.insert(digest, Arc::new(kept));
    }

    /// Forgets an answer; whether there was one.
    pub(crate) fn forget(&self, digest: &Digest) -> bool {
        self.0.remove(digest).is_some()
    }

    /// Forgets all answers.
    pub(crate) fn clear(&self) {
        self.0.clear();
    }
}

impl Weighter<Digest, Arc<Kept>> for Weight {
    fn weight(&self, _: &Digest, kept: &Arc<Kept>) -> u64 {
        OVERHEAD + (kept.body.len() + kept.head_size + size_of::<Kept>()) as u64
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    fn kept(body_len: usize, until: Option<SystemTime>) -> Kept {
        Kept {
            cuts: Digest::default(),
            status: StatusCode::OK,
            headers: Box::default(),
            once: Box::default(),
            head_size: 0,
            body: vec![b'x'; body_len].into(),
            at: 0,
            ttl: 0,
            until,
            must_revalidate: false,
            bare_request: true,
        }
    }

    #[test]
    fn a_dictionary_has_room_for_so_much_and_no_more() {
        let dictionary = Dictionary::with_room(1024 * 1024, 1);
        for n in 0..=255 {
            dictionary.put([n; 32], kept(64 * 1024, None));
        }
        let left = (0..=255).filter(|n| dictionary.get(&[*n; 32], UNIX_EPOCH).is_some());
        assert!((8..=16).contains(&left.count()));
        assert!(dictionary.0.weight() <= 1024 * 1024);
    }

    #[test]
    fn the_largest_answer_fits_into_a_part() {
        let dictionary = Dictionary::new();
        assert!(dictionary.0.shard_capacity() >= 2 * LARGEST as u64);
        dictionary.put([1; 32], kept(LARGEST, None));
        assert!(dictionary.get(&[1; 32], UNIX_EPOCH).is_some());
    }

    #[test]
    fn an_answer_is_forgotten_when_its_time_is_over() {
        let dictionary = Dictionary::with_room(1024 * 1024, 1);
        let at = |millis| UNIX_EPOCH + Duration::from_millis(millis);
        dictionary.put([1; 32], kept(1, Some(at(1500))));
        assert!(dictionary.get(&[1; 32], at(1499)).is_some());
        assert!(dictionary.get(&[1; 32], at(1500)).is_none());
        assert_eq!(dictionary.0.len(), 0);
    }
}
