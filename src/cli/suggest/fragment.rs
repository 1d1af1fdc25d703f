//! From what was seen of a gate to limits, or to the reason why none can be named.
//!
//! A pure function with few rules, each of which a reader can check against the evidence that stands beside the number:
//!
//! * **Enough to judge.** Fewer than [`FINISHED_MIN`] finished requests say too little (their rate is good to a tenth at best), and
//!   so does a watch shorter than [`HOLDS_MIN`] times a request is held: what it saw hangs on how it began. Then nothing is named.
//! * **A number** is the larger of two. The most that was seen, times the headroom: what happened once will happen again, and a
//!   little more. And the mean `L` plus [`DEVIATIONS`] times its root: requests that come independently of each other are a
//!   Poisson number in flight, whatever their durations, and exceed that in less than one moment of a thousand. It stands in
//!   where no look fell on the peak. Both count places, so a request of cost `c` counts `c`, and its variance `c²`.
//! * **The whole** gets a limit; **a resource** where at least two had traffic, since one alone is the whole; **accounts** get one
//!   where at least two were seen, by the largest peak of any: nobody would have been refused. It is never above the whole's.
//! * Nothing is below the dearest request's cost, or such requests would never fit.
//!
//! **Little's law**, `L = λW`, is shown rather than trusted: `L` is what was looked at, `λ` what finished, and `L / λ` so the time
//! for which a place was held, to be compared with the time to the answer's head, which the gate measures for each request.
//! Every limit comes in shadow mode. Never says what the upstream could bear: that was not seen.

use std::fmt::Write as _;
use std::time::Duration;

use super::observe::{Load, Observed, Resource, float};
use crate::config::units::readable;

/// Requests that must have finished.
const FINISHED_MIN: u64 = 100;
/// How many times the mean hold time must have been watched.
const HOLDS_MIN: f64 = 10.0;
/// How far above its mean a number in flight is expected, in standard deviations.
const DEVIATIONS: f64 = 4.0;
/// Accounts that are named as evidence.
const ACCOUNTS_SHOWN: usize = 5;
/// Longest name of a limit.
const NAME_MAX: usize = 64;

/// Why no limits can be named.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub(super) enum Unfit {
    /// Nothing happened.
    #[error(
        "no requests went through the gate in {}, so there is nothing to suggest limits from (exempt resources do not count); \
         watch while clients use it",
        seconds(*.watched)
    )]
    Idle {
        /// For so long.
        watched: Duration,
    },
    /// Too little happened.
    #[error(
        "only {finished} requests finished in {}, and limits from fewer than {FINISHED_MIN} would be guesses; watch {}",
        seconds(*.watched),
        longer(*.finished, *.watched)
    )]
    TooLittle {
        /// So many requests.
        finished: u64,
        /// In so long.
        watched: Duration,
    },
    /// The watch was too short for what requests take.
    #[error(
        "a request was held for {held:.1} s on average, and {} is too short to see how many come together; watch ten times as \
         long as one is held: --for {}",
        seconds(*.watched),
        rounded_up(*.held * HOLDS_MIN)
    )]
    TooShort {
        /// A request holds its place for so many seconds.
        held: f64,
        /// And this was watched.
        watched: Duration,
    },
}

/// How long would be long enough, if all goes on as it did.
fn longer(finished: u64, watched: Duration) -> String {
    if finished == 0 {
        return "for longer".to_owned();
    }
    let seconds = watched.as_secs_f64() * float(FINISHED_MIN) / float(finished);
    format!("for longer, such as --for {}", rounded_up(seconds * 1.2))
}

/// A time to the second, as people write it.
fn seconds(time: Duration) -> String {
    readable(Duration::from_secs(
        (time + Duration::from_millis(500)).as_secs(),
    ))
}

/// Whole seconds, or whole minutes where there are many.
fn rounded_up(seconds: f64) -> String {
    let unit = if seconds > 120.0 { 60.0 } else { 1.0 };
    readable(Duration::from_secs(
        u64::from(whole(seconds / unit)) * u64::from(whole(unit)),
    ))
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a float that is too large or below zero becomes the nearest number that there is"
)]
fn whole(number: f64) -> u32 {
    number.ceil() as u32
}

/// The limits as YAML, the evidence in comments.
pub(super) fn fragment(observed: &Observed, gate: &str, headroom: u32) -> Result<String, Unfit> {
    let Observed { watched, whole, .. } = observed;
    let watched = *watched;
    if whole.finished == 0 && whole.peak == 0 {
        return Err(Unfit::Idle { watched });
    }
    judge(whole, watched)?;
    let rules = Rules {
        observed,
        headroom,
        dearest: observed.resources.iter().map(|of| of.cost).max(),
    };
    let mut text = rules.introduction(gate);
    text.push_str("limits:\n");
    rules.add_whole(&mut text);
    rules.add_accounts(&mut text);
    rules.add_resources(&mut text);
    Ok(text)
}

/// Whether so much work, watched for so long, can be judged.
fn judge(load: &Load, watched: Duration) -> Result<(), Unfit> {
    let finished = load.finished;
    if finished < FINISHED_MIN {
        return Err(Unfit::TooLittle { finished, watched });
    }
    let held = load.held_seconds(watched);
    if held * HOLDS_MIN > watched.as_secs_f64() {
        return Err(Unfit::TooShort { held, watched });
    }
    Ok(())
}

impl Load {
    fn rate(&self, watched: Duration) -> f64 {
        float(self.finished) / watched.as_secs_f64().max(f64::EPSILON)
    }

    /// By Little's law.
    fn held_seconds(&self, watched: Duration) -> f64 {
        self.mean / self.rate(watched).max(f64::EPSILON)
    }

    /// Rate, times and places, as comments.
    fn evidence(&self, watched: Duration) -> String {
        let rate = self.rate(watched);
        let (peak, mean) = (self.peak, self.mean_places);
        let held = self.held_seconds(watched);
        let mut text = format!(
            "  # Seen: {} finished, {rate:.1} a second; {mean:.1} places taken on average, {peak} at most.\n  # L = λW: ",
            self.finished
        );
        let _ = match self.head_seconds {
            Some(head) => writeln!(
                text,
                "{rate:.1}/s × {head:.3} s to the answer's head = {:.1} in flight; {:.1} were, so each was held for {held:.3} s.",
                rate * head,
                self.mean
            ),
            None => writeln!(text, "{:.1} / {rate:.1}/s = {held:.3} s held.", self.mean),
        };
        text
    }
}

/// What all limits of one fragment share.
struct Rules<'o> {
    observed: &'o Observed,
    headroom: u32,
    /// The largest cost of a request that limits cover.
    dearest: Option<u32>,
}

impl Rules<'_> {
    fn with_headroom(&self, peak: u32) -> u32 {
        let wanted = (u64::from(peak) * u64::from(self.headroom)).div_ceil(100);
        u32::try_from(wanted).unwrap_or(u32::MAX)
    }

    fn max(&self, load: &Load, dearest: u32) -> u32 {
        let expected = whole(load.mean_places + DEVIATIONS * load.variance.sqrt());
        self.with_headroom(load.peak).max(expected).max(dearest)
    }

    fn introduction(&self, gate: &str) -> String {
        let Observed {
            watched,
            looks,
            whole,
            was_reloaded,
            ..
        } = self.observed;
        let mut text = format!(
            "\
# Suggested by `tidegate suggest` from {} at {}, {looks} looks.
# Each `max` is the larger of {} % of the most that was seen, and the mean plus four times its root.
# They refuse nothing yet (`mode: shadow`): add them to the limits that are there, compare tidegate_shadow_total, then take the
# mode away.
#
# What this cannot know: other hours than these; how much the upstream could bear; other gates before it; what came and went
# between two looks (accounts are counted at every request, in intervals of six seconds); and whether an account misbehaved.
",
            seconds(*watched),
            plain(gate),
            self.headroom,
        );
        if whole.rejected > 0 {
            let _ = writeln!(
                text,
                "# {} requests were refused by limits in force, so clients wanted more than is counted here.",
                whole.rejected
            );
        }
        if *was_reloaded {
            text.push_str("# The configuration was changed meanwhile; the figures are of both.\n");
        }
        text
    }

    fn add_whole(&self, text: &mut String) {
        let Observed { whole, watched, .. } = self.observed;
        text.push_str("  # All requests.\n");
        text.push_str(&whole.evidence(*watched));
        add(text, "suggested-whole", "per: []", self.whole_max());
    }

    fn whole_max(&self) -> u32 {
        self.max(&self.observed.whole, self.dearest.unwrap_or(1))
    }

    fn add_accounts(&self, text: &mut String) {
        let accounts = &self.observed.accounts;
        let shown = accounts
            .iter()
            .take(ACCOUNTS_SHOWN)
            .map(|(name, peak)| format!("{} {peak}", plain(name)));
        let shown = shown.collect::<Vec<_>>().join(", ");
        let [(_, largest), _, ..] = accounts.as_slice() else {
            let _ = writeln!(
                text,
                "  # No limit for each account: there was one only ({}); `accounts.identify` says who is who.",
                if shown.is_empty() { "-" } else { &shown }
            );
            return;
        };
        let _ = writeln!(
            text,
            "  # Each account. The most that one had in flight at once, the largest first: {shown}."
        );
        let busy = self
            .observed
            .resources
            .iter()
            .filter(|of| of.load.peak > 0 || of.load.finished > 0);
        let cost = busy.map(|of| of.cost).max().unwrap_or(1);
        if cost > 1 {
            let _ = writeln!(
                text,
                "  # Taken times {cost}, the cost of the dearest requests seen: accounts are counted in requests."
            );
        }
        let max = self.with_headroom(largest.saturating_mul(cost));
        let max = max.max(self.dearest.unwrap_or(1)).min(self.whole_max());
        add(text, "suggested-account", "per: [account]", max);
    }

    fn add_resources(&self, text: &mut String) {
        let busy = |of: &&Resource| of.load.peak > 0 || of.load.finished > 0;
        let busy: Vec<_> = self.observed.resources.iter().filter(busy).collect();
        if let [only] = busy.as_slice() {
            let name = plain(&only.name);
            let _ = writeln!(
                text,
                "  # No limit for a resource: only `{name}` had traffic, so it is the whole."
            );
            return;
        }
        for (index, resource) in busy.into_iter().enumerate() {
            let name = plain(&resource.name);
            if let Err(why) = judge(&resource.load, self.observed.watched) {
                let _ = writeln!(text, "  # No limit for the resource `{name}`: {why}.");
                continue;
            }
            let _ = writeln!(text, "  # The resource `{name}`.");
            text.push_str(&resource.load.evidence(self.observed.watched));
            let own = format!("suggested-resource-{name}");
            let own = if own.len() > NAME_MAX {
                format!("suggested-long-{index}")
            } else {
                own
            };
            // Quoted: `1` and `null` are names.
            let covers = format!("per: []\n    resources: [\"{name}\"]");
            let max = self.max(&resource.load, resource.cost);
            add(text, &own, &covers, max);
        }
    }
}

fn add(text: &mut String, name: &str, covers: &str, max: u32) {
    let _ = writeln!(
        text,
        "  - name: {name}\n    {covers}\n    max: {max}\n    mode: shadow"
    );
}

/// Names in quotes or comments stay within them, whoever answered.
fn plain(name: &str) -> String {
    let is_plain = |c: char| c.is_ascii_graphic() && c != '"' && c != '\\';
    let kept = name.chars().map(|c| if is_plain(c) { c } else { '?' });
    kept.take(128).collect()
}
