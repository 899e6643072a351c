//! The Prometheus text format, version 0.0.4.

use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::escape;

/// `Content-Type` of the rendered text, as Kong sends it.
pub const CONTENT_TYPE: &str = "text/plain; charset=UTF-8";

/// What a metric is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Buckets, count and sum.
    Histogram,
}

impl Kind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// A metric whose values somebody else keeps, read at the moment of rendering.
#[derive(Debug, Clone, PartialEq)]
pub struct Family {
    name: Cow<'static, str>,
    help: Cow<'static, str>,
    kind: Kind,
    samples: Vec<Sample>,
}

/// Labels, in order, and the value.
type Sample = (Vec<(Cow<'static, str>, String)>, f64);

impl Family {
    /// An empty gauge or counter. `name` has to be a metric name: `[a-zA-Z_:][a-zA-Z0-9_:]*`.
    pub fn new(
        name: impl Into<Cow<'static, str>>,
        help: impl Into<Cow<'static, str>>,
        kind: Kind,
    ) -> Self {
        Self {
            name: name.into(),
            help: help.into(),
            kind,
            samples: Vec::new(),
        }
    }

    /// Adds a sample. Label names have to match `[a-zA-Z_][a-zA-Z0-9_]*`; values may be anything.
    #[must_use]
    pub fn sample<'a>(
        mut self,
        labels: impl IntoIterator<Item = (&'static str, &'a str)>,
        value: f64,
    ) -> Self {
        let labels = labels
            .into_iter()
            .map(|(name, value)| (name.into(), value.to_owned()))
            .collect();
        self.samples.push((labels, value));
        self
    }

    /// `silverback_retry_budget_balance{account}`, from accounts and their balances in retries.
    pub fn retry_budget_balances<'a>(balances: impl IntoIterator<Item = (&'a str, f64)>) -> Self {
        let help = "Retries the account could pay for now";
        balances.into_iter().fold(
            Self::new("silverback_retry_budget_balance", help, Kind::Gauge),
            |family, (account, balance)| family.sample([("account", account)], balance),
        )
    }

    /// `kong_nginx_timers{state}`: what runs in the background, and what waits to.
    pub fn timers(running: u64, pending: u64) -> Self {
        Self::new("kong_nginx_timers", "Number of nginx timers", Kind::Gauge)
            .sample([("state", "pending")], as_value(pending))
            .sample([("state", "running")], as_value(running))
    }

    /// `kong_db_entities_total`, under the name Kong's paid edition has it, and `kong_db_entity_count{type}`.
    pub fn db_entities<'a>(counts: impl IntoIterator<Item = (&'a str, u64)>) -> [Self; 2] {
        let mut by_type = Self::new(
            "kong_db_entity_count",
            "Entities in the configuration by type",
            Kind::Gauge,
        );
        let mut total = 0;
        for (entity, count) in counts {
            total += count;
            by_type = by_type.sample([("type", entity)], as_value(count));
        }
        let sum = Self::new(
            "kong_db_entities_total",
            "Total number of Kong db entities",
            Kind::Gauge,
        );
        [sum.sample([], as_value(total)), by_type]
    }

    /// `kong_upstream_target_health`: each of the states of every address is a series, 1 for the state it is
    /// in. An item is `(upstream, target, "ip:port", state)`; the state is `healthchecks_off`, `healthy`,
    /// `unhealthy` or `dns_error`, the last with an empty address.
    pub fn upstream_target_health<'a>(
        targets: impl IntoIterator<Item = (&'a str, &'a str, &'a str, &'a str)>,
    ) -> Self {
        const STATES: [&str; 4] = ["healthchecks_off", "healthy", "unhealthy", "dns_error"];
        let help = "Health status of targets of upstream. States = healthchecks_off|healthy|unhealthy|dns_error, \
                    value is 1 when state is populated.";
        let mut family = Self::new("kong_upstream_target_health", help, Kind::Gauge);
        for (upstream, target, address, current) in targets {
            for state in STATES {
                let labels = [
                    ("upstream", upstream),
                    ("target", target),
                    ("address", address),
                    ("state", state),
                    ("subsystem", "http"),
                ];
                family = family.sample(labels, f64::from(u8::from(state == current)));
            }
        }
        family
    }
}

/// The text format's numbers are doubles; counters lose precision beyond 2^53.
#[allow(clippy::cast_precision_loss)]
pub(super) fn as_value(count: u64) -> f64 {
    count as f64
}

/// Collects families and puts them out sorted by name, as Kong does. Samples stay in the order given; those
/// of one name end up under one heading, whoever wrote them.
#[derive(Debug, Default)]
pub(super) struct Exposition {
    families: BTreeMap<String, String>,
}

impl Exposition {
    pub(super) fn counter(&mut self, name: &str, help: &str) -> FamilyWriter<'_> {
        self.family(name, help, Kind::Counter)
    }

    pub(super) fn gauge(&mut self, name: &str, help: &str) -> FamilyWriter<'_> {
        self.family(name, help, Kind::Gauge)
    }

    pub(super) fn histogram(&mut self, name: &str, help: &str) -> FamilyWriter<'_> {
        self.family(name, help, Kind::Histogram)
    }

    /// Nothing is written for a family without samples.
    pub(super) fn extra(&mut self, family: &Family) {
        if family.samples.is_empty() {
            return;
        }
        let mut writer = self.family(&family.name, &family.help, family.kind);
        for (labels, value) in &family.samples {
            let labels: Vec<(&str, &str)> = labels
                .iter()
                .map(|(name, value)| (name.as_ref(), value.as_str()))
                .collect();
            writer.sample("", &labels, None, *value);
        }
    }

    fn family(&mut self, name: &str, help: &str, kind: Kind) -> FamilyWriter<'_> {
        let text = self.families.entry(name.to_owned()).or_default();
        if text.is_empty() {
            let help = help.replace('\\', "\\\\").replace('\n', "\\n");
            *text = format!("# HELP {name} {help}\n# TYPE {name} {}\n", kind.as_str());
        }
        FamilyWriter {
            name: name.to_owned(),
            text,
        }
    }

    pub(super) fn finish(self) -> String {
        self.families.into_values().collect()
    }
}

/// Writes samples of one family.
pub(super) struct FamilyWriter<'a> {
    name: String,
    text: &'a mut String,
}

impl FamilyWriter<'_> {
    /// One sample; `last` is a label after the others, for a histogram's `le`.
    pub(super) fn sample(
        &mut self,
        suffix: &str,
        labels: &[(&str, &str)],
        last: Option<(&str, &str)>,
        value: f64,
    ) {
        self.text.push_str(&self.name);
        self.text.push_str(suffix);
        let mut opening = '{';
        for (name, value) in labels.iter().copied().chain(last) {
            self.text.push(opening);
            self.text.push_str(name);
            self.text.push_str("=\"");
            escape::push_label(self.text, value);
            self.text.push('"');
            opening = ',';
        }
        if opening == ',' {
            self.text.push('}');
        }
        self.text.push(' ');
        self.text.push_str(&number(value));
        self.text.push('\n');
    }
}

/// Prometheus spells infinities `+Inf` and `-Inf`; otherwise Rust's shortest notation is one it reads.
fn number(value: f64) -> String {
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    value.to_string()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn label_values_are_escaped() {
        let mut out = Exposition::default();
        out.extra(&Family::new("x", "a\\b\nc", Kind::Gauge).sample([("l", "q\" b\\ n\nü")], 1.0));
        assert_eq!(
            out.finish(),
            "# HELP x a\\\\b\\nc\n# TYPE x gauge\nx{l=\"q\\\" b\\\\ n\\nü\"} 1\n"
        );
    }

    #[test]
    fn families_are_sorted_and_share_a_heading() {
        let mut out = Exposition::default();
        out.counter("b_total", "B").sample("", &[], None, 2.0);
        out.extra(&Family::new("a", "A", Kind::Gauge).sample([], 0.5));
        out.extra(&Family::new("b_total", "other", Kind::Counter).sample([("k", "v")], 3.0));
        out.extra(&Family::new("c", "never", Kind::Gauge));
        assert_eq!(
            out.finish(),
            "# HELP a A\n# TYPE a gauge\na 0.5\n# HELP b_total B\n# TYPE b_total counter\nb_total 2\nb_total{k=\"v\"} 3\n"
        );
    }

    #[test]
    fn numbers_are_written_as_prometheus_reads_them() {
        for (value, text) in [
            (1.0, "1"),
            (-2.5, "-2.5"),
            (1_700_000_000_000.0, "1700000000000"),
            (f64::INFINITY, "+Inf"),
            (f64::NEG_INFINITY, "-Inf"),
            (f64::NAN, "NaN"),
        ] {
            assert_eq!(number(value), text);
        }
    }

    #[test]
    fn entities_are_counted_by_type_and_together() {
        let mut out = Exposition::default();
        for family in &Family::db_entities([("routes", 3), ("services", 2)]) {
            out.extra(family);
        }
        let text = out.finish();
        assert!(text.contains("\nkong_db_entities_total 5\n"), "{text}");
        assert!(
            text.contains("\nkong_db_entity_count{type=\"routes\"} 3\n"),
            "{text}"
        );
    }

    #[test]
    fn a_target_is_one_in_exactly_its_state() {
        let mut out = Exposition::default();
        out.extra(&Family::upstream_target_health([(
            "u",
            "t:80",
            "10.0.0.1:80",
            "unhealthy",
        )]));
        let text = out.finish();
        let labels = "upstream=\"u\",target=\"t:80\",address=\"10.0.0.1:80\"";
        assert!(
            text.contains(&format!(
                "{{{labels},state=\"unhealthy\",subsystem=\"http\"}} 1\n"
            )),
            "{text}"
        );
        assert_eq!(text.matches("} 0\n").count(), 3);
    }
}
