//! Latencies of one window, counted by size, so that a quantile can be read from them.
//!
//! Log-linear: 32 buckets to each doubling, as in HdrHistogram, because a percentile of latency is wanted to a few percent over six
//! orders of magnitude and in bounded memory. A quantile is interpolated within its bucket and so off by at most the bucket's
//! width: 1/32 (3.2 %) of the value, or 1 µs if that is more. Never grows, never loses a count: what is out of range is counted
//! at its end.

use std::time::Duration;

/// Buckets to each doubling: with 32, a p90 is good to 3.2 %, half of the 6 % that the queue estimate of a limit of 100 can
/// tell apart (its `alpha` is 6).
const BUCKETS_PER_DOUBLING: u64 = 1 << BITS;
const BITS: u32 = 5;
/// The longest latency that is told apart, in microseconds: 18 minutes, longer than any timeout of an upstream.
const LONGEST: u64 = (1 << DOUBLINGS) - 1;
const DOUBLINGS: u32 = 30;
/// 832 buckets, 3.3 KiB.
const BUCKETS: usize = ((DOUBLINGS - BITS + 1) as u64 * BUCKETS_PER_DOUBLING) as usize;

/// How many latencies fell into each bucket.
#[derive(Debug, Clone)]
pub(super) struct Histogram {
    buckets: Box<[u32]>,
}

impl Histogram {
    pub(super) fn new() -> Self {
        Self {
            buckets: vec![0; BUCKETS].into_boxed_slice(),
        }
    }

    pub(super) fn add(&mut self, latency: Duration) {
        if let Some(bucket) = self.buckets.get_mut(index(latency)) {
            *bucket = bucket.saturating_add(1);
        }
    }

    /// Moves all counts of `other` here.
    pub(super) fn take(&mut self, other: &mut Self) {
        for (mine, theirs) in self.buckets.iter_mut().zip(&mut other.buckets) {
            *mine = mine.saturating_add(std::mem::take(theirs));
        }
    }

    pub(super) fn clear(&mut self) {
        self.buckets.fill(0);
    }

    /// The latency that `share` (0 to 1) of the latencies do not exceed, in seconds; `None` if there are none.
    pub(super) fn quantile(&self, share: f64) -> Option<f64> {
        let count: u64 = self.buckets.iter().map(|&count| u64::from(count)).sum();
        if count == 0 {
            return None;
        }
        #[expect(clippy::cast_precision_loss, reason = "a count below 2^42")]
        let mut rank = share * count as f64;
        let mut last = 0.0;
        for (index, &count) in self.buckets.iter().enumerate() {
            let count = f64::from(count);
            if count == 0.0 {
                continue;
            }
            let (low, width) = bounds(index);
            last = low + width * (rank / count).clamp(0.0, 1.0);
            if rank <= count {
                break;
            }
            rank -= count;
        }
        Some(last / 1e6)
    }
}

fn index(latency: Duration) -> usize {
    let micros = u64::try_from(latency.as_micros())
        .unwrap_or(LONGEST)
        .min(LONGEST);
    let Some(shift) = micros.max(1).ilog2().checked_sub(BITS) else {
        return micros as usize;
    };
    let within = (micros >> shift) - BUCKETS_PER_DOUBLING;
    (u64::from(shift + 1) * BUCKETS_PER_DOUBLING + within) as usize
}

/// Lower bound and width of a bucket, in microseconds.
fn bounds(index: usize) -> (f64, f64) {
    let (doubling, within) = (
        index as u64 / BUCKETS_PER_DOUBLING,
        index as u64 % BUCKETS_PER_DOUBLING,
    );
    let Some(shift) = doubling.checked_sub(1) else {
        return (within as f64, 1.0);
    };
    let width = (1_u64 << shift) as f64;
    ((BUCKETS_PER_DOUBLING + within) as f64 * width, width)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_is_at_most_a_thirty_second_of_its_value_wide() {
        for micros in (0..LONGEST).step_by(99_991).chain(0..5_000) {
            let (low, width) = bounds(index(Duration::from_micros(micros)));
            let value = micros as f64;
            assert!(low <= value && value < low + width, "{micros}");
            assert!(width <= (value / 32.0).max(1.0), "{micros}: {width}");
        }
    }

    #[test]
    fn a_quantile_is_off_by_less_than_its_bucket() {
        let mut histogram = Histogram::new();
        for micros in 1..=100_000 {
            histogram.add(Duration::from_micros(micros));
        }
        for share in [0.01, 0.5, 0.9, 0.99] {
            let quantile = histogram.quantile(share).unwrap();
            let exact = share * 0.1;
            assert!((quantile / exact - 1.0).abs() < 1.0 / 32.0, "{quantile}");
        }
    }

    #[test]
    fn what_is_out_of_range_is_counted_at_its_end() {
        let mut histogram = Histogram::new();
        assert!(histogram.quantile(0.9).is_none());
        histogram.add(Duration::MAX);
        assert!(histogram.quantile(0.0).unwrap() > 1_000.0);
        histogram.add(Duration::ZERO);
        assert!(histogram.quantile(0.1).unwrap() < 1e-6);
    }
}
