//! Rounds into figures, figures into a table and a file.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use super::load::Seen;
use super::usage::Usage;

/// The subject that the others are compared with.
pub(super) const YARDSTICK: &str = "bare";

/// What many of something is compared with: one of it.
const ONE_OF: [(&str, &str); 3] = [
    ("routes", "plain"),
    ("consumers", "key-auth"),
    ("routes+consumers", "key-auth"),
];

/// One subject in one round.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Sample {
    pub(super) per_second: f64,
    pub(super) p50_us: f64,
    pub(super) p99_us: f64,
    /// CPU microseconds of the proxy process per request.
    pub(super) cpu_us: f64,
    pub(super) resident_kib: u64,
    pub(super) errors: u64,
}

impl Sample {
    #[allow(clippy::cast_precision_loss)] // Counts of one run: far below 2^52.
    pub(super) fn new(seen: Seen, before: Usage, after: Usage) -> Self {
        let requests = seen.requests as f64;
        Self {
            per_second: requests / seen.seconds,
            p50_us: seen.p50_us as f64,
            p99_us: seen.p99_us as f64,
            cpu_us: after.cpu.saturating_sub(before.cpu).as_secs_f64() * 1e6 / requests,
            resident_kib: after.resident_kib,
            errors: seen.errors,
        }
    }
}

/// The rounds of every subject, in the order the subjects were added.
#[derive(Debug, Default)]
pub(super) struct Rounds {
    order: Vec<String>,
    samples: BTreeMap<String, Vec<Sample>>,
}

impl Rounds {
    pub(super) fn add(&mut self, subject: &str, sample: Sample) {
        if !self.samples.contains_key(subject) {
            self.order.push(subject.to_owned());
        }
        self.samples
            .entry(subject.to_owned())
            .or_default()
            .push(sample);
    }

    /// Figures per subject: medians over the rounds. A ratio is taken within each round before the median, so that what slows
    /// a whole round down cancels out.
    pub(super) fn figures(&self, order: &[String]) -> Value {
        let empty = Vec::new();
        let rounds_of = |name: &str| self.samples.get(name).unwrap_or(&empty);
        let yardstick = rounds_of(YARDSTICK);
        let mut figures = serde_json::Map::new();
        for name in order.iter().filter(|name| self.samples.contains_key(*name)) {
            let samples = &self.samples[name];
            let mid = |get: fn(&Sample) -> f64| median(samples.iter().map(get).collect());
            let ratio = |get: fn(&Sample) -> f64, other: &[Sample]| {
                let ratios = samples.iter().zip(other).map(|(s, o)| get(s) / get(o));
                let ratios: Vec<_> = ratios.filter(|r| r.is_finite()).collect();
                if ratios.is_empty() {
                    Value::Null
                } else {
                    json!(round(median(ratios), 3))
                }
            };
            let one = ONE_OF.iter().find(|(many, _)| many == name);
            let figure = json!({
                "requests_per_second": round(mid(|s| s.per_second), 0),
                "p50_us": mid(|s| s.p50_us),
                "p99_us": mid(|s| s.p99_us),
                "cpu_us_per_request": round(mid(|s| s.cpu_us), 2),
                "cpu_us_per_request_rounds": samples.iter().map(|s| round(s.cpu_us, 2)).collect::<Vec<_>>(),
                "resident_kib": samples.iter().map(|s| s.resident_kib).max(),
                "errors": samples.iter().map(|s| s.errors).sum::<u64>(),
                "cpu_ratio": ratio(|s| s.cpu_us, yardstick),
                "cpu_ratio_to_one": one.map_or(Value::Null, |(_, one)| ratio(|s| s.cpu_us, rounds_of(one))),
                "throughput_ratio": ratio(|s| s.per_second, yardstick),
            });
            figures.insert(name.clone(), figure);
        }
        Value::Object(figures)
    }
}

/// The figures of [`Rounds::figures`] as a table.
pub(super) fn table(figures: &Value) -> String {
    let mut lines = vec![format!(
        "{:<24}{:>10}{:>9}{:>9}{:>12}{:>9}{:>8}{:>10}{:>8}",
        "", "req/s", "p50 us", "p99 us", "CPU us/req", "x bare", "x one", "RSS MiB", "errors"
    )];
    for (name, figure) in figures.as_object().into_iter().flatten() {
        let number = |key: &str| figure[key].as_f64().unwrap_or_default();
        let ratio = |key: &str| {
            figure[key]
                .as_f64()
                .map_or_else(|| "-".into(), |r| format!("{r:.2}"))
        };
        lines.push(format!(
            "{name:<24}{:>10.0}{:>9.0}{:>9.0}{:>12.2}{:>9}{:>8}{:>10.0}{:>8}",
            number("requests_per_second"),
            number("p50_us"),
            number("p99_us"),
            number("cpu_us_per_request"),
            ratio("cpu_ratio"),
            ratio("cpu_ratio_to_one"),
            number("resident_kib") / 1024.0,
            figure["errors"].to_string()
        ));
    }
    lines.join("\n")
}

/// Median and 99th percentile of durations, in milliseconds.
pub(super) fn spread(mut times: Vec<Duration>) -> Value {
    times.sort();
    let at = |percent: usize| {
        // The nearest rank: the smallest time that so many percent do not exceed.
        times.get((times.len() * percent).div_ceil(100).saturating_sub(1))
    };
    let ms = |time: Option<&Duration>| time.map(|t| round(t.as_secs_f64() * 1e3, 2));
    json!({"samples": times.len(), "p50_ms": ms(at(50)), "p99_ms": ms(at(99)), "max_ms": ms(times.last())})
}

/// The middle of the values; the mean of the middle two when their number is even, 0 without any.
pub(super) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => 0.0,
        n if n % 2 == 1 => values[middle],
        _ => f64::midpoint(values[middle - 1], values[middle]),
    }
}

/// Rounded to some decimal places.
pub(super) fn round(value: f64, places: i32) -> f64 {
    let scale = 10f64.powi(places);
    (value * scale).round() / scale
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(cpu_us: f64) -> Sample {
        Sample {
            per_second: 1000.0,
            p50_us: 1.0,
            p99_us: 2.0,
            cpu_us,
            resident_kib: 2048,
            errors: 0,
        }
    }

    #[test]
    fn cpu_per_request_comes_from_the_difference() {
        let seen = Seen {
            requests: 1000,
            seconds: 2.0,
            p50_us: 5,
            p99_us: 9,
            errors: 0,
        };
        let at = |ms| Usage {
            cpu: Duration::from_millis(ms),
            resident_kib: 7,
        };
        let sample = Sample::new(seen, at(100), at(150));
        assert!((sample.cpu_us - 50.0).abs() < 1e-9 && (sample.per_second - 500.0).abs() < 1e-9);
    }

    #[test]
    fn a_ratio_compares_within_its_round() {
        let mut rounds = Rounds::default();
        // The second round was three times as slow for all.
        for (bare, plain) in [(10.0, 11.0), (30.0, 33.0), (10.0, 11.0)] {
            rounds.add(YARDSTICK, sample(bare));
            rounds.add("plain", sample(plain));
            rounds.add("routes", sample(plain));
        }
        let figures = rounds.figures(&["bare", "plain", "routes", "absent"].map(str::to_owned));
        assert_eq!(figures["plain"]["cpu_ratio"], json!(1.1));
        assert_eq!(figures["bare"]["cpu_ratio"], json!(1.0));
        assert_eq!(figures["plain"]["cpu_ratio_to_one"], Value::Null);
        assert_eq!(figures["routes"]["cpu_ratio_to_one"], json!(1.0));
        let table = table(&figures);
        assert!(table.ends_with("       2       0"), "{table}");
        assert_eq!(table.lines().count(), 4, "{table}");
        assert!(table.contains("1.10"), "{table}");
    }

    #[test]
    fn without_the_yardstick_there_is_no_ratio() {
        let mut rounds = Rounds::default();
        rounds.add("plain", sample(11.0));
        assert_eq!(
            rounds.figures(&["plain".into()])["plain"]["cpu_ratio"],
            Value::Null
        );
    }

    #[test]
    fn medians_and_percentiles() {
        assert!((median(vec![3.0, 1.0, 2.0]) - 2.0).abs() < 1e-9);
        assert!((median(vec![1.0, 2.0]) - 1.5).abs() < 1e-9);
        assert!(median(Vec::new()).abs() < 1e-9);
        let times = (1..=100).map(Duration::from_millis).collect();
        assert_eq!(
            spread(times),
            json!({"samples": 100, "p50_ms": 50.0, "p99_ms": 99.0, "max_ms": 100.0})
        );
        assert_eq!(spread(Vec::new())["p50_ms"], Value::Null);
    }
}
