//! Status callbacks: the customer's server is told how each branch goes, in order and without anybody waiting for it.

use std::time::Duration;

use super::board::{Board, Hook, LegId};
use super::machine::Call;
use super::words::CallStatus;
use crate::presence::fetch::fields::timestamp;

impl Call {
    /// The talk of that branch is over.
    pub(super) fn completed(&mut self, leg: LegId, took: Duration, board: &mut dyn Board) {
        let index = self.branches.iter().position(|branch| branch.leg == leg);
        let Some(index) = index else { return };
        let end = Some(CallStatus::Completed);
        self.tell_branch(index, "completed", end, Some(took), board);
    }

    pub(super) fn called_back(
        &mut self,
        index: usize,
        event: &'static str,
        end: Option<CallStatus>,
        board: &mut dyn Board,
    ) {
        self.tell_branch(index, event, end, None, board);
    }

    /// Tells the customer's server how a branch goes, if it wants to know.
    fn tell_branch(
        &mut self,
        index: usize,
        event: &'static str,
        end: Option<CallStatus>,
        took: Option<Duration>,
        board: &mut dyn Board,
    ) {
        let branch = &mut self.branches[index];
        let Some(callback) = branch.callback.clone() else {
            return;
        };
        let (is_wanted, status) = match event {
            "initiated" => (callback.events.initiated, "initiated"),
            "ringing" => (callback.events.ringing, "ringing"),
            "answered" => (callback.events.answered, "in-progress"),
            _ => (
                callback.events.completed,
                end.map_or("completed", CallStatus::as_str),
            ),
        };
        if !is_wanted {
            return;
        }
        let sequence = branch.sequence;
        branch.sequence += 1;
        let to = format!("client:{}", branch.device.session.identity.as_str());
        let mut fields = vec![
            ("CallSid", branch.sid.clone()),
            ("ParentCallSid", self.facts.sid.clone()),
            ("AccountSid", self.facts.account.clone()),
            ("ApiVersion", "2010-04-01".to_owned()),
            ("Direction", "outbound-dial".to_owned()),
            ("CallStatus", status.to_owned()),
            ("From", self.facts.from.clone()),
            ("Caller", self.facts.from.clone()),
            ("To", to.clone()),
            ("Called", to),
            ("CallbackSource", "call-progress-events".to_owned()),
            ("SequenceNumber", sequence.to_string()),
            (
                "Timestamp",
                timestamp(Duration::from_millis(self.now.unix_ms)),
            ),
        ];
        if end.is_some() {
            let seconds = took.unwrap_or_default().as_secs();
            fields.push(("CallDuration", seconds.to_string()));
        }
        let fields = fields.into_iter();
        let fields = fields
            .map(|(name, value)| (name.to_owned(), value))
            .collect();
        board.tell(Hook {
            base: self.base.clone(),
            link: callback.link,
            fields,
            is_action: false,
        });
    }
}
