//! From a noisy number a window to one that can be compared, and how two of them move together.
//!
//! A median drops a single odd window, a moving average smooths the rest; both need no memory beyond a few numbers.
//! Correlations are computed anew each time over all that is kept, so that no rounding error adds up. Never yields a
//! number that is not finite.

use std::collections::VecDeque;

/// Averages begin as the plain mean of so many values, else the first one would weigh too long (Netflix' `ExpAvgMeasurement`).
const WARM_UP: u32 = 10;
/// How many windows the median looks at: two odd ones of five do not show, and a change does after three.
const MEDIAN: usize = 5;

/// An exponentially weighted moving average.
#[derive(Debug, Clone)]
pub(super) struct Average {
    weight: f64,
    count: u32,
    value: f64,
}

impl Average {
    /// An average in which the last `age` values weigh 86 % (1 − e⁻²).
    pub(super) fn new(age: u32) -> Self {
        Self {
            weight: 2.0 / (f64::from(age) + 1.0),
            count: 0,
            value: 0.0,
        }
    }

    pub(super) fn add(&mut self, value: f64) -> f64 {
        self.count = (self.count + 1).min(WARM_UP + 1);
        let weight = if self.count <= WARM_UP {
            1.0 / f64::from(self.count)
        } else {
            self.weight
        };
        self.value += (value - self.value) * weight;
        self.value
    }

    /// Goes on with another age; what was averaged stays.
    pub(super) fn set_age(&mut self, age: u32) {
        self.weight = Self::new(age).weight;
    }

    #[cfg(test)]
    fn value(&self) -> f64 {
        self.value
    }
}

/// A median of the last few values, then a moving average.
#[derive(Debug, Clone)]
pub(super) struct Smooth {
    last: [f64; MEDIAN],
    count: usize,
    average: Average,
}

impl Smooth {
    pub(super) fn new(age: u32) -> Self {
        Self {
            last: [0.0; MEDIAN],
            count: 0,
            average: Average::new(age),
        }
    }

    pub(super) fn add(&mut self, value: f64) -> f64 {
        self.last[self.count % MEDIAN] = value;
        self.count += 1;
        let mut sorted = self.last;
        let kept = &mut sorted[..self.count.min(MEDIAN)];
        kept.sort_by(f64::total_cmp);
        self.average.add(kept[kept.len() / 2])
    }

    #[cfg(test)]
    fn value(&self) -> f64 {
        self.average.value()
    }
}

/// One window, as the correlations see it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Point {
    pub(super) in_flight: f64,
    pub(super) throughput: f64,
    pub(super) latency: f64,
}

/// The last points, oldest first.
#[derive(Debug, Clone)]
pub(super) struct History {
    points: VecDeque<Point>,
    kept: usize,
}

impl History {
    pub(super) fn new(kept: usize) -> Self {
        Self {
            points: VecDeque::with_capacity(kept),
            kept,
        }
    }

    pub(super) fn add(&mut self, point: Point) {
        if self.points.len() >= self.kept {
            self.points.pop_front();
        }
        self.points.push_back(point);
    }

    /// From −1 to 1; 0 where there are few points, or one of the two hardly varies.
    pub(super) fn correlation(&self, x: fn(&Point) -> f64, y: fn(&Point) -> f64) -> f64 {
        /// A series that varies by less than this share of its mean is constant, and what is left is noise (failsafe-go).
        const CONSTANT: f64 = 0.01;
        if self.points.len() < WARM_UP as usize
            || self.variation(x) < CONSTANT
            || self.variation(y) < CONSTANT
        {
            return 0.0;
        }
        let (mean_x, mean_y) = (self.mean(x), self.mean(y));
        let (mut xy, mut xx, mut yy) = (0.0, 0.0, 0.0);
        for point in &self.points {
            let (dx, dy) = (x(point) - mean_x, y(point) - mean_y);
            xy += dx * dy;
            xx += dx * dx;
            yy += dy * dy;
        }
        finite(xy / (xx * yy).sqrt()).clamp(-1.0, 1.0)
    }

    /// Standard deviation over mean; 0 where there are no points.
    pub(super) fn variation(&self, of: fn(&Point) -> f64) -> f64 {
        let mean = self.mean(of);
        let squares = self.points.iter().map(|point| (of(point) - mean).powi(2));
        let variance = squares.sum::<f64>() / self.points.len() as f64;
        finite(variance.sqrt() / mean)
    }

    /// Over the last so many points; 0 where there are none.
    pub(super) fn mean_of_last(&self, kept: usize, of: fn(&Point) -> f64) -> f64 {
        let count = kept.min(self.points.len());
        let sum: f64 = self.points.iter().rev().take(count).map(of).sum();
        finite(sum / count as f64)
    }

    fn mean(&self, of: fn(&Point) -> f64) -> f64 {
        self.points.iter().map(of).sum::<f64>() / self.points.len() as f64
    }
}

fn finite(value: f64) -> f64 {
    if value.is_finite() { value } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(points: impl IntoIterator<Item = (f64, f64)>) -> History {
        let mut history = History::new(50);
        for (in_flight, latency) in points {
            history.add(Point {
                in_flight,
                throughput: 1.0,
                latency,
            });
        }
        history
    }

    fn latency(history: &History) -> f64 {
        history.correlation(|p| p.in_flight, |p| p.latency)
    }

    #[test]
    fn what_rises_together_correlates() {
        let up = history((1..30).map(|i| (f64::from(i), 2.0 * f64::from(i))));
        assert!((latency(&up) - 1.0).abs() < 1e-9);
        let down = history((1..30).map(|i| (f64::from(i), -2.0 * f64::from(i))));
        assert!((latency(&down) + 1.0).abs() < 1e-9 || latency(&down) == 0.0);
    }

    #[test]
    fn few_or_constant_points_do_not_correlate() {
        assert_eq!(
            latency(&history((1..9).map(|i| (f64::from(i), f64::from(i))))),
            0.0
        );
        assert_eq!(latency(&history((1..40).map(|i| (f64::from(i), 7.0)))), 0.0);
        assert_eq!(latency(&history([])), 0.0);
    }

    #[test]
    fn only_the_last_points_count() {
        let turned = (0..200).map(|i| (f64::from(i), f64::from(i)));
        let flat = (0..50).map(|i| (10.0 + f64::from(i % 2), 5.0 + f64::from((i / 2) % 2)));
        assert!(latency(&history(turned.chain(flat))).abs() < 0.1);
    }

    #[test]
    fn two_odd_windows_of_five_do_not_show() {
        let mut smooth = Smooth::new(5);
        for value in [1.0, 1.0, 1.0, 900.0, 900.0, 1.0, 1.0, 1.0] {
            smooth.add(value);
        }
        assert!((smooth.value() - 1.0).abs() < 1e-9, "{}", smooth.value());
    }

    #[test]
    fn an_average_begins_as_the_plain_mean() {
        let mut average = Average::new(60);
        for value in [1.0, 2.0, 3.0] {
            average.add(value);
        }
        assert!((average.value() - 2.0).abs() < 1e-9);
    }
}
