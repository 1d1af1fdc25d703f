//! The domain: what may be in flight, what is, and the proof that a request fitted.
//!
//! A *limit* says how much may be in flight for a key; a [`Permit`] is the proof that a request fitted, and
//! gives itself back when dropped. [`Registry::acquire`] is the one question the rest of the program asks.
//! Never reads a header, a file or the wall clock: a [`Class`] and an instant come in, a [`Decision`] goes out.

mod acquire;
mod adaptive;
mod ask;
mod candidate;
mod cell;
mod class;
mod cost;
mod dismiss;
mod due;
mod early;
mod episode;
mod fairness;
mod flows;
mod forecast;
mod hold;
mod join;
mod key;
mod ladder;
mod lately;
mod lease;
mod limit;
mod moving;
mod occupancy;
mod order;
mod permit;
mod plan;
mod policy;
mod registry;
mod rejection;
mod renew;
mod retry;
mod serve;
mod sketch;
mod snapshot;
mod sparing;
mod sync;
mod tally;
mod temporary;
mod timed;
mod usage;
mod waiting;

pub use adaptive::{Adaptive, AdaptiveDecision, AdaptiveNumbers, AdaptiveSettings, Sample};
pub use ask::{Ask, Story};
pub use candidate::{Candidate, CandidateSettings, WouldReject};
pub use class::{
    AccountName, AccountNameError, Class, ClientNetwork, GroupId, Priority, ResourceId, UpstreamId,
    Value,
};
pub use cost::{Cost, LearnedCost};
pub use early::EarlyUse;
pub use episode::{Episodes, Met, Onset};
pub use forecast::{Foreseen, Standing, Verdict};
pub use key::{Dimension, Label};
pub use ladder::{Ladder, Order, Overage, Queue, Slow, Step};
pub use lease::{LeaseId, LeaseTerms, LeaseView, Leases, hex};
pub use limit::{Guarantee, Guaranteed, Limit, LimitSettings, Mode};
pub use moving::{AdaptiveUse, Follow, Moves};
pub use permit::{Outcome, Permit};
pub use policy::{Policy, PolicyGroup, PolicyResource, PolicySettings};
pub use registry::Registry;
pub use rejection::{Reason, Rejection};
pub use retry::RetryBudget;
pub use snapshot::{CandidateUse, KeyUse, LimitUse, Snapshot};
pub use sparing::Pressure;
pub use tally::Counted;
pub use temporary::{TemporaryFault, TemporaryMax, Whose};
pub use usage::AccountUse;
pub use waiting::{Ticket, Turn, Wait};

/// The answer to [`Registry::acquire`].
#[derive(Debug)]
#[must_use]
pub enum Decision {
    /// The request fits every limit that applies to it, and holds its places.
    Admit(Permit),
    /// It may wait for its places.
    Wait(Wait),
    /// It does not; nothing was taken.
    Reject(Box<Rejection>),
}
