//! Histograms with fixed bounds.

use std::array;
use std::sync::atomic::{AtomicU64, Ordering};

use super::exposition::Exposition;

/// Upper bounds of `N` buckets, ascending, in microseconds, and how they are written.
#[derive(Debug)]
pub(super) struct Bounds<const N: usize> {
    pub(super) micros: [u64; N],
    /// Microseconds in the unit of the metric: 1000 for `_ms`, a million for `_seconds`.
    pub(super) unit: f64,
}

/// Bounds given in milliseconds.
const fn millis<const N: usize>(mut bounds: [u64; N]) -> Bounds<N> {
    let mut at = 0;
    while at < N {
        bounds[at] *= 1000;
        at += 1;
    }
    Bounds {
        micros: bounds,
        unit: 1000.0,
    }
}

/// Kong's `KONG_LATENCY_BUCKETS`.
pub(super) static KONG_LATENCY: Bounds<17> = millis([
    1, 2, 5, 7, 10, 15, 20, 30, 50, 75, 100, 200, 500, 750, 1000, 3000, 6000,
]);

/// Kong's `UPSTREAM_LATENCY_BUCKETS`, which it also uses for the whole request.
pub(super) static UPSTREAM_LATENCY: Bounds<13> = millis([
    25, 50, 80, 100, 250, 400, 700, 1000, 2000, 5000, 10_000, 30_000, 60_000,
]);

/// From 5 ms to 30 s, for building a snapshot.
pub(super) static BUILD_TIME: Bounds<12> = Bounds {
    micros: [
        5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000, 5_000_000,
        10_000_000, 30_000_000,
    ],
    unit: 1_000_000.0,
};

/// Observations by bucket; those above the last bound are in `above`.
#[derive(Debug)]
pub(super) struct Histogram<const N: usize> {
    buckets: [AtomicU64; N],
    above: AtomicU64,
    sum_micros: AtomicU64,
}

impl<const N: usize> Default for Histogram<N> {
    fn default() -> Self {
        Self {
            buckets: array::from_fn(|_| AtomicU64::new(0)),
            above: AtomicU64::new(0),
            sum_micros: AtomicU64::new(0),
        }
    }
}

impl<const N: usize> Histogram<N> {
    pub(super) fn observe(&self, bounds: &Bounds<N>, micros: u64) {
        let at = bounds.micros.partition_point(|&bound| bound < micros);
        self.buckets
            .get(at)
            .unwrap_or(&self.above)
            .fetch_add(1, Ordering::Relaxed);
        self.sum_micros.fetch_add(micros, Ordering::Relaxed);
    }
}

/// What a histogram held at one moment, or several of them together.
#[derive(Debug)]
pub(super) struct Sums<const N: usize> {
    buckets: [u64; N],
    above: u64,
    sum_micros: u64,
}

impl<const N: usize> Default for Sums<N> {
    fn default() -> Self {
        Self {
            buckets: [0; N],
            above: 0,
            sum_micros: 0,
        }
    }
}

impl<const N: usize> Sums<N> {
    pub(super) fn add(&mut self, histogram: &Histogram<N>) {
        for (sum, bucket) in self.buckets.iter_mut().zip(&histogram.buckets) {
            *sum += bucket.load(Ordering::Relaxed);
        }
        self.above += histogram.above.load(Ordering::Relaxed);
        self.sum_micros += histogram.sum_micros.load(Ordering::Relaxed);
    }

    /// Writes the samples of one series; nothing for one that has observed nothing.
    #[allow(clippy::cast_precision_loss)] // the text format's numbers are doubles
    pub(super) fn write(
        &self,
        out: &mut Exposition,
        name: &'static str,
        help: &str,
        bounds: &Bounds<N>,
        labels: &[(&str, &str)],
    ) {
        let count = self.buckets.iter().sum::<u64>() + self.above;
        if count == 0 {
            return;
        }
        let mut family = out.histogram(name, help);
        let mut so_far = 0;
        for (bound, bucket) in bounds.micros.iter().zip(&self.buckets) {
            so_far += bucket;
            let bound = (*bound as f64 / bounds.unit).to_string();
            family.sample("_bucket", labels, Some(("le", &bound)), so_far as f64);
        }
        family.sample("_bucket", labels, Some(("le", "+Inf")), count as f64);
        family.sample("_count", labels, None, count as f64);
        family.sample("_sum", labels, None, self.sum_micros as f64 / bounds.unit);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_cumulative_and_a_bound_belongs_to_its_bucket() {
        let histogram = Histogram::default();
        for micros in [0, 25_000, 25_001, 60_000_000, 60_000_001] {
            histogram.observe(&UPSTREAM_LATENCY, micros);
        }
        let mut sums = Sums::default();
        sums.add(&histogram);
        let mut out = Exposition::default();
        sums.write(
            &mut out,
            "x_ms",
            "X",
            &UPSTREAM_LATENCY,
            &[("service", "s")],
        );
        let text = out.finish();
        for line in [
            "# TYPE x_ms histogram",
            "x_ms_bucket{service=\"s\",le=\"25\"} 2",
            "x_ms_bucket{service=\"s\",le=\"50\"} 3",
            "x_ms_bucket{service=\"s\",le=\"30000\"} 3",
            "x_ms_bucket{service=\"s\",le=\"60000\"} 4",
            "x_ms_bucket{service=\"s\",le=\"+Inf\"} 5",
            "x_ms_count{service=\"s\"} 5",
            "x_ms_sum{service=\"s\"} 120050.002",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
        }
    }

    #[test]
    fn bounds_ascend() {
        assert!(KONG_LATENCY.micros.is_sorted());
        assert!(UPSTREAM_LATENCY.micros.is_sorted());
        assert!(BUILD_TIME.micros.is_sorted());
    }
}
