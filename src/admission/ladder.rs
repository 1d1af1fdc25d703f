//! What happens when a request does not fit: steps, tried in order, the last of which refuses.
//!
//! Only `reject` is a step so far; a configuration that asks for another is refused as `not_supported`.
//! Never empty: a ladder always ends in an answer.

/// One step of a ladder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Answer with this status code.
    Reject {
        /// The HTTP status of the refusal.
        status: u16,
    },
}

/// The steps of one limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ladder {
    status: u16,
}

impl Ladder {
    /// A ladder of one step, which refuses with `status`.
    #[must_use]
    pub fn reject(status: u16) -> Self {
        Self { status }
    }

    /// The last step.
    #[must_use]
    pub fn last(&self) -> Step {
        Step::Reject {
            status: self.status,
        }
    }
}
