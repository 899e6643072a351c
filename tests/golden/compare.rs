//! When two answers are the same.
//!
//! JSON by value. Generated ids, keys and paging offsets are mapped from the recorded to the actual one, consistently
//! throughout the file. Timestamps and request ids are any. The order of violations in a message, of tags, and of the rows of a
//! collection is free.

use std::collections::HashMap;
use std::sync::LazyLock;

use regex::Regex;
use serde_json::{Map as Object, Value};

static UUID: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new("^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$").unwrap()
});
static OPAQUE: LazyLock<Regex> =
    LazyLock::new(|| Regex::new("^[A-Za-z0-9+/=_-]{20,}$|^[$]pbkdf2-").unwrap());
/// A generated value within a text, such as a code in an address.
static WITHIN: LazyLock<Regex> = LazyLock::new(|| Regex::new("[A-Za-z0-9]{32}").unwrap());
static REQUEST_ID: LazyLock<Regex> =
    LazyLock::new(|| Regex::new("[0-9a-f]{32}|[0-9a-f-]{36}").unwrap());

/// What is generated anew each time: recorded value to actual one.
#[derive(Default)]
pub(super) struct Map {
    values: HashMap<String, String>,
    by_start: HashMap<String, Vec<String>>,
}

/// How many characters the start of a generated value has: enough to find it quickly in a text.
const START: usize = 8;

impl Map {
    /// The text with each recorded value replaced by the actual one.
    pub(super) fn substitute(&self, text: &str) -> String {
        if self.values.is_empty() || !text.is_ascii() {
            return text.to_owned();
        }
        let mut out = String::with_capacity(text.len());
        let mut at = 0;
        while at < text.len() {
            let rest = &text[at..];
            let known = rest
                .get(..START)
                .and_then(|start| self.by_start.get(start))
                .and_then(|keys| keys.iter().find(|key| rest.starts_with(key.as_str())));
            match known {
                Some(key) => {
                    out.push_str(&self.values[key]);
                    at += key.len();
                }
                None => {
                    out.push_str(&rest[..1]);
                    at += 1;
                }
            }
        }
        out
    }

    /// Whether `actual` can stand for `recorded`; from now on it does.
    pub(super) fn learn(&mut self, recorded: &str, actual: &str) -> bool {
        match self.values.get(recorded) {
            Some(known) => known == actual,
            None => {
                if let Some(start) = recorded.get(..START) {
                    let keys = self.by_start.entry(start.to_owned()).or_default();
                    keys.push(recorded.to_owned());
                    keys.sort_by_key(|key| std::cmp::Reverse(key.len()));
                    self.values.insert(recorded.to_owned(), actual.to_owned());
                }
                recorded.len() >= START
            }
        }
    }
}

/// One comparison of a recorded with an actual body.
pub(super) struct Comparison<'a> {
    /// What stands for what; grows.
    pub(super) map: &'a mut Map,
    /// What was sent: values in it were chosen by the client, so that they must come back as they are.
    pub(super) sent: &'a str,
    /// What differs.
    pub(super) why: Vec<String>,
}

impl Comparison<'_> {
    /// Compares `actual` with what Kong answered; differences go to `why`.
    pub(super) fn run(&mut self, kong: &Value, actual: &Value, key: &str, path: &str) {
        const TIMES: [&str; 3] = ["created_at", "updated_at", "expires"];
        match (kong, actual) {
            (Value::Number(_), Value::Number(_)) if TIMES.contains(&key) => {}
            // Seconds that are left: fewer on a machine that is slow.
            (Value::Number(x), Value::Number(y)) if key == "ttl" && x.as_u64() >= y.as_u64() => {}
            (Value::Number(x), Value::Number(y)) if x.as_f64() == y.as_f64() => {}
            (Value::Object(x), Value::Object(y)) => self.objects(x, y, path),
            (Value::Array(x), Value::Array(y)) => self.arrays(x, y, key, path),
            (Value::String(x), Value::String(y)) if self.strings(x, y, key) => {}
            _ if kong == actual && !kong.is_string() => {}
            _ => self.why.push(format!(
                "{path}: {} where Kong has {}",
                short(actual),
                short(kong)
            )),
        }
    }

    fn objects(
        &mut self,
        kong: &Object<String, Value>,
        actual: &Object<String, Value>,
        path: &str,
    ) {
        for (key, value) in kong {
            match actual.get(key) {
                None => self.why.push(format!("{path}.{key}: missing")),
                Some(ours) => self.run(value, ours, key, &format!("{path}.{key}")),
            }
        }
        for key in actual.keys() {
            if !kong.contains_key(key) && !matches!(key.as_str(), "description" | "deprecation") {
                self.why.push(format!("{path}.{key}: not in Kong's answer"));
            }
        }
    }

    fn arrays(&mut self, kong: &[Value], actual: &[Value], key: &str, path: &str) {
        if kong.len() != actual.len() {
            self.why.push(format!(
                "{path}: {} items, Kong has {}",
                actual.len(),
                kong.len()
            ));
            return;
        }
        let rows = key == "data" && kong.iter().chain(actual).all(|x| x.get("id").is_some());
        let texts = !rows && kong.iter().chain(actual).all(Value::is_string);
        if texts {
            let sorted = |list: &[Value], map: Option<&Map>| {
                let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
                let mut list: Vec<_> = list
                    .iter()
                    .map(|v| map.map_or_else(|| text(v), |m| m.substitute(&text(v))))
                    .collect();
                list.sort();
                list
            };
            if sorted(kong, Some(self.map)) == sorted(actual, None) {
                return;
            }
        }
        let actual = if rows {
            self.paired(kong, actual)
        } else {
            actual.to_vec()
        };
        for (index, (x, y)) in kong.iter().zip(&actual).enumerate() {
            self.run(x, y, "", &format!("{path}[{index}]"));
        }
    }

    /// The actual rows in the order of the recorded ones that they are: by id, else by name, else as they come.
    fn paired(&self, kong: &[Value], actual: &[Value]) -> Vec<Value> {
        let name = |row: &Value| {
            ["name", "username", "target", "group", "key"]
                .iter()
                .find_map(|key| row[*key].as_str().map(str::to_owned))
        };
        let mut left: Vec<Value> = actual.to_vec();
        let mut found: Vec<Option<Value>> = Vec::new();
        for row in kong {
            let id = row["id"].as_str().map(|id| self.map.substitute(id));
            let same_id = left.iter().position(|x| x["id"].as_str() == id.as_deref());
            let same_name =
                || name(row).and_then(|n| left.iter().position(|x| name(x).as_ref() == Some(&n)));
            found.push(same_id.or_else(same_name).map(|at| left.remove(at)));
        }
        let mut left = left.into_iter();
        found
            .into_iter()
            .map(|row| row.or_else(|| left.next()).unwrap_or_default())
            .collect()
    }

    fn strings(&mut self, kong: &str, actual: &str, key: &str) -> bool {
        let ours = self.map.substitute(kong);
        if kong == actual || ours == actual {
            return true;
        }
        if key == "message" && violations(&ours) == violations(actual) {
            return true;
        }
        if key == "next" {
            return self.next(kong, actual);
        }
        if key == "offset" {
            return self.map.learn(kong, actual);
        }
        let alike = |pattern: &Regex| pattern.is_match(kong) && pattern.is_match(actual);
        if (alike(&UUID) || alike(&OPAQUE))
            && !self.sent.contains(kong)
            && self.map.learn(kong, actual)
        {
            return true;
        }
        let around = |text: &str| WITHIN.replace_all(text, "*").into_owned();
        if kong.starts_with("http") && kong.len() > 32 && around(kong) == around(actual) {
            let pairs = WITHIN.find_iter(kong).zip(WITHIN.find_iter(actual));
            let pairs: Vec<_> = pairs.map(|(x, y)| (x.as_str(), y.as_str())).collect();
            return pairs.into_iter().all(|(x, y)| self.map.learn(x, y));
        }
        let blank = |text: &str| REQUEST_ID.replace_all(text, "*").into_owned();
        (kong.contains("request_id") || key == "request_id") && blank(kong) == blank(actual)
    }

    /// The address of the next page: the offset is any.
    fn next(&mut self, kong: &str, actual: &str) -> bool {
        let split = |url: &str| {
            let (path, query) = url.split_once('?').unwrap_or((url, ""));
            let mut pairs: Vec<String> = query.split('&').map(str::to_owned).collect();
            let offset = pairs
                .iter()
                .position(|p| p.starts_with("offset="))
                .map(|at| pairs.remove(at)["offset=".len()..].to_owned());
            pairs.sort();
            (path.to_owned(), pairs, offset)
        };
        let (path, pairs, offset) = split(kong);
        let (our_path, our_pairs, our_offset) = split(actual);
        if let (Some(x), Some(y)) = (&offset, &our_offset) {
            self.map.learn(x, y);
        }
        self.map.substitute(&path) == our_path
            && pairs == our_pairs
            && offset.is_some() == our_offset.is_some()
    }
}

/// `2 schema violations (a; b)` with its parts in order.
fn violations(message: &str) -> Option<(&str, Vec<&str>)> {
    let (head, rest) = message.split_once(" (")?;
    if !head.ends_with("violation") && !head.ends_with("violations") {
        return None;
    }
    let mut parts: Vec<&str> = rest.strip_suffix(')')?.split("; ").collect();
    parts.sort_unstable();
    Some((head, parts))
}

fn short(value: &Value) -> String {
    value.to_string().chars().take(160).collect()
}
