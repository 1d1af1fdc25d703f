//! What the one at the terminal is told while the demo of calls runs: a line for each thing that happens, and the sum.

use std::time::Duration;

use tokio::sync::mpsc;

/// Lines that may wait for the terminal.
const LINES_MAX: usize = 100;

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Seen {
    /// A page was opened.
    Opened(&'static str),
    /// Somebody calls somebody.
    Called { from: String, to: String },
    /// A device rings.
    Rings(String),
    /// Somebody answered.
    Answered(String),
    /// The call was put through to nobody, or is over: its status, and its seconds.
    Ended {
        status: String,
        seconds: Option<u64>,
    },
}

/// Where those who serve say it.
#[derive(Debug, Clone)]
pub(super) struct Tell(mpsc::Sender<Seen>);

impl Tell {
    /// A way for it.
    pub(super) fn new() -> (Self, mpsc::Receiver<Seen>) {
        let (sender, seen) = mpsc::channel(LINES_MAX);
        (Self(sender), seen)
    }

    /// Says it, unless the terminal does not keep up: nothing else waits for that.
    pub(super) fn say(&self, seen: Seen) {
        drop(self.0.try_send(seen));
    }
}

/// The line for it.
pub(super) fn line(elapsed: Duration, seen: &Seen) -> String {
    let (minutes, seconds) = (elapsed.as_secs() / 60, elapsed.as_secs() % 60);
    let what = match seen {
        Seen::Opened(who) => format!("{who}'s page was opened"),
        Seen::Called { from, to } => format!("{from} calls {to}"),
        Seen::Rings(who) => format!("{who} rings"),
        Seen::Answered(who) => format!("{who} answers"),
        Seen::Ended {
            seconds: Some(seconds),
            ..
        } => format!("they talked for {seconds} s"),
        Seen::Ended { status, .. } => format!("nobody talked: {status}"),
    };
    format!("  {minutes:02}:{seconds:02}  {what}\n")
}

/// How the calls went.
#[derive(Debug, Default)]
pub(super) struct Tally {
    calls: u64,
    answered: u64,
}

impl Tally {
    pub(super) fn count(&mut self, seen: &Seen) {
        match seen {
            Seen::Called { .. } => self.calls += 1,
            Seen::Answered(_) => self.answered += 1,
            Seen::Opened(_) | Seen::Rings(_) | Seen::Ended { .. } => {}
        }
    }

    pub(super) fn verdict(&self) -> String {
        format!("calls: {}, answered: {}", self.calls, self.answered)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_happens_is_told_and_counted() {
        let (from, to) = ("alice".to_owned(), "bob".to_owned());
        let talk = [
            Seen::Called { from, to },
            Seen::Rings("bob".into()),
            Seen::Answered("bob".into()),
            Seen::Ended {
                status: "completed".into(),
                seconds: Some(7),
            },
        ];
        let mut tally = Tally::default();
        talk.iter().for_each(|seen| tally.count(seen));
        assert_eq!(tally.verdict(), "calls: 1, answered: 1");
        let told = line(Duration::from_secs(75), &talk[3]);
        assert_eq!(told, "  01:15  they talked for 7 s\n");
    }
}
