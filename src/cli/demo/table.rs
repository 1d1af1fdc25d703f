//! What the demo shows: the table, and the verdict at its end.
//!
//! Text out of figures, nothing else: every line is at most 79 columns, so that a table drawn over
//! itself stays where it is. Never writes to the terminal, never asks for the time.

use std::fmt::Write as _;
use std::time::Duration;

use super::NOISY;
use super::tally::{Figures, Histogram};

/// The others count as undisturbed while their p99 is within half of the origin's own and this: the
/// way through the gate, two timers that may be a millisecond late each, and now and then a short
/// wait for a worker.
const SLACK: Duration = Duration::from_millis(15);

/// All figures of one moment.
#[derive(Debug)]
pub(super) struct Scene {
    /// How long the load has run.
    pub(super) elapsed: Duration,
    /// Each account's figures, in the order they are shown.
    pub(super) accounts: Vec<(&'static str, Figures)>,
    /// How long the origin's workers took.
    pub(super) service: Histogram,
    /// Whether the gate's limits are on.
    pub(super) limits: bool,
}

impl Scene {
    /// The table, a line for each account; as many lines every time.
    pub(super) fn table(&self) -> String {
        let mut text = format!(
            "{:<9}{:>7}{:>10}{:>9}{:>8}{:>11}{:>8}{:>8}{:>9}\n",
            "account", "sent", "admitted", "refused", "errors", "open", "p50", "p99", "refusal"
        );
        for (name, figures) in &self.accounts {
            append(
                &mut text,
                format_args!(
                    "{:<9}{:>7}{:>10}{:>9}{:>8}{:>11}{:>8}{:>8}{:>9}\n",
                    name,
                    figures.sent,
                    figures.admitted(),
                    figures.refused(),
                    figures.errors,
                    figures.in_flight(),
                    shown(figures.admitted.quantile(500)),
                    shown(figures.admitted.quantile(990)),
                    shown(figures.refused.quantile(500)),
                ),
            );
        }
        append(
            &mut text,
            format_args!(
                "after {} s; the origin's own work: p50 {}, p99 {}\n",
                self.elapsed.as_secs(),
                shown(self.service.quantile(500)),
                shown(self.service.quantile(990)),
            ),
        );
        text.push_str(if self.limits {
            "Look at how many of noisy's are refused and how soon (refusal: the p50 of one),\n\
             and whether the p99 of the others stays near that of the origin's own work.\n"
        } else {
            "Look at how far the p99 of the others leaves that of the origin's own work:\n\
             noisy has every worker busy, and nobody is refused.\n"
        });
        text
    }

    /// One sentence: what the figures say about the noisy account and about the others.
    pub(super) fn verdict(&self) -> String {
        let (mut noisy, mut others, mut count) = (Figures::default(), Figures::default(), 0_u64);
        for (name, figures) in &self.accounts {
            if *name == NOISY {
                noisy.merge(figures);
            } else {
                others.merge(figures);
                count += 1;
            }
        }
        let own = self.service.quantile(990);
        let (Some(own), Some(p99)) = (own, others.admitted.quantile(990)) else {
            return "Nothing was answered, so there is nothing to judge.".to_owned();
        };
        let judgement = if others.refused() + others.errors > 0 {
            "noisy is felt"
        } else if p99 <= own + own / 2 + SLACK {
            "as if noisy were not there"
        } else {
            "they pay for noisy with their time"
        };
        let mut sentence = format!(
            "noisy: {} refused; the other {count}: {} refused",
            percent(noisy.refused(), noisy.sent),
            others.refused()
        );
        if others.errors > 0 {
            append(&mut sentence, format_args!(", {} errors", others.errors));
        }
        append(
            &mut sentence,
            format_args!(
                ", p99 {} (the origin's own work: {}), {judgement}.",
                shown(Some(p99)),
                shown(Some(own))
            ),
        );
        sentence
    }
}

fn append(text: &mut String, more: std::fmt::Arguments<'_>) {
    text.write_fmt(more).expect("a String takes every text");
}

/// A duration in two or three digits, or a dash for none.
fn shown(duration: Option<Duration>) -> String {
    let Some(duration) = duration else {
        return "-".to_owned();
    };
    let millis = duration.as_secs_f64() * 1000.0;
    match millis {
        ..9.95 => format!("{millis:.1} ms"),
        ..999.5 => format!("{millis:.0} ms"),
        _ => format!("{:.1} s", millis / 1000.0),
    }
}

fn percent(part: u64, whole: u64) -> String {
    let whole = whole.max(1);
    // Rounded, but never to a 0 or a 100 that is not so.
    let rounded = match (part * 100 + whole / 2) / whole {
        0 if part > 0 => 1,
        100 if part < whole => 99,
        other => other,
    };
    format!("{rounded} %")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(sent: u64, admitted: &[u64], refused: &[u64]) -> Figures {
        let mut figures = Figures {
            sent,
            ..Figures::default()
        };
        for ms in admitted {
            figures.admitted.record(Duration::from_millis(*ms));
        }
        for ms in refused {
            figures.refused.record(Duration::from_millis(*ms));
        }
        figures
    }

    fn scene(acme: Figures, noisy: Figures) -> Scene {
        let mut service = Histogram::default();
        for ms in [40, 80] {
            service.record(Duration::from_millis(ms));
        }
        let accounts = vec![("acme", acme), (NOISY, noisy)];
        Scene {
            elapsed: Duration::from_millis(12_900),
            accounts,
            service,
            limits: true,
        }
    }

    #[test]
    fn the_table_shows_each_account_in_its_line() {
        let mut noisy = figures(400, &[41, 1500], &[2, 2, 1]);
        noisy.errors = 1;
        let table = scene(figures(3, &[40, 90], &[]), noisy).table();
        assert_eq!(
            table,
            "\
account     sent  admitted  refused  errors       open     p50     p99  refusal
acme           3         2        0       0          1   40 ms   90 ms        -
noisy        400         2        3       1        394   41 ms   1.5 s   2.0 ms
after 12 s; the origin's own work: p50 40 ms, p99 81 ms
Look at how many of noisy's are refused and how soon (refusal: the p50 of one),
and whether the p99 of the others stays near that of the origin's own work.
"
        );
        assert!(table.lines().all(|line| line.chars().count() <= 79));
    }

    #[test]
    fn every_table_has_as_many_lines_as_the_one_before() {
        let empty = scene(Figures::default(), Figures::default()).table();
        let full = scene(figures(9, &[40], &[1]), figures(1_000_000, &[1], &[1])).table();
        assert_eq!(empty.lines().count(), full.lines().count());
    }

    #[test]
    fn the_verdict_says_that_the_others_did_not_notice() {
        let verdict = scene(figures(2, &[40, 90], &[]), figures(4, &[50], &[1, 1, 1])).verdict();
        assert_eq!(
            verdict,
            "noisy: 75 % refused; the other 1: 0 refused, p99 90 ms (the origin's own work: 81 ms), \
             as if noisy were not there."
        );
    }

    #[test]
    fn the_verdict_does_not_hide_that_the_others_suffered() {
        let slow = scene(figures(2, &[40, 700], &[]), figures(4, &[50], &[])).verdict();
        assert!(
            slow.starts_with("noisy: 0 % refused; the other 1: 0 refused, p99 705 ms"),
            "{slow}"
        );
        assert!(
            slow.ends_with("they pay for noisy with their time."),
            "{slow}"
        );
        let refused = scene(figures(2, &[40], &[1]), figures(4, &[50], &[])).verdict();
        assert!(refused.ends_with("noisy is felt."), "{refused}");
        let nothing = scene(Figures::default(), Figures::default()).verdict();
        assert_eq!(
            nothing,
            "Nothing was answered, so there is nothing to judge."
        );
    }

    #[test]
    fn a_share_is_never_rounded_to_none_or_to_all() {
        let shares = [(0, 0), (0, 9), (1, 1000), (999, 1000), (1, 2), (9, 9)];
        let texts = shares.map(|(part, whole)| percent(part, whole));
        assert_eq!(texts, ["0 %", "0 %", "1 %", "99 %", "50 %", "100 %"]);
    }
}
