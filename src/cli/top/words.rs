//! Numbers and times as they stand in a column.

use std::time::Duration;

use super::question::Whose;

/// A time in at most five characters, cut and not rounded: `250ms`, `12.3s`, `4m10s`, `2h05m`, `3d04h`.
pub(super) fn time(time: Duration) -> String {
    let seconds = time.as_secs();
    let two = |large: u64, small: u64, units: [&str; 2]| {
        format!("{large}{}{small:02}{}", units[0], units[1])
    };
    match seconds {
        0 => format!("{}ms", time.as_millis()),
        1..60 => format!("{seconds}.{}s", time.subsec_millis() / 100),
        60..3_600 => two(seconds / 60, seconds % 60, ["m", "s"]),
        3_600..86_400 => two(seconds / 3_600, seconds / 60 % 60, ["h", "m"]),
        _ => two(seconds / 86_400, seconds / 3_600 % 24, ["d", "h"]),
    }
}

/// The same without parts of a second.
pub(super) fn whole_time(of: Duration) -> String {
    match of.as_secs() {
        seconds @ 0..60 => format!("{seconds}s"),
        _ => time(of),
    }
}

/// Seconds that a gate told; one that tells nonsense has shown none.
pub(super) fn seconds(seconds: f64) -> String {
    time(Duration::try_from_secs_f64(seconds).unwrap_or_default())
}

/// A rate; what nobody knows yet is `-`.
pub(super) fn rate(rate: Option<f64>) -> String {
    match rate {
        None => "-".to_owned(),
        Some(0.0) => "0".to_owned(),
        Some(rate) if rate < 10.0 => format!("{rate:.1}"),
        Some(rate) => format!("{rate:.0}"),
    }
}

/// Whose maximum an override is.
pub(super) fn whose(whose: &Whose) -> String {
    match whose {
        Whose::Everyone => "everyone".to_owned(),
        Whose::Account(account) => account.to_string(),
        Whose::Group(group) => format!("group {}", &**group),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_fit_a_narrow_column() {
        let shown = [42, 12_345, 250_000, 7_500_000, 273_600_000]
            .map(|millis| time(Duration::from_millis(millis)));
        assert_eq!(shown, ["42ms", "12.3s", "4m10s", "2h05m", "3d04h"]);
        assert_eq!(whole_time(Duration::from_millis(12_345)), "12s");
        assert_eq!(seconds(f64::NAN), "0ms");
    }

    #[test]
    fn a_rate_that_nobody_knows_is_none() {
        let shown = [None, Some(0.0), Some(1.25), Some(162.4)].map(rate);
        assert_eq!(shown, ["-", "0", "1.2", "162"]);
    }
}
