//! Calls: from a request to a device that rings, and to the end of the talk.
//!
//! A [`machine::Call`] decides: a plain value that takes one event after the other, so that the order of its queue is the order of what
//! happened, and no two devices can win. It acts through a [`board::Board`]; the real one ([`switch`]) writes to sockets, fetches and
//! keeps the timers, in one task a call. A test drives the same machine over a board of its own. Media never passes: session
//! descriptions are handed over unread.

pub(in crate::presence) mod board;
pub(in crate::presence) mod book;
pub(in crate::presence) mod branch;
pub(in crate::presence) mod dial;
pub(in crate::presence) mod dialect;
pub(in crate::presence) mod dialling;
pub(in crate::presence) mod elsewhere;
pub(in crate::presence) mod facts;
pub(in crate::presence) mod handle;
pub(in crate::presence) mod machine;
pub(in crate::presence) mod progress;
pub(in crate::presence) mod ring;
#[cfg(test)]
mod simulation;
pub(in crate::presence) mod start;
pub(in crate::presence) mod switch;
pub(in crate::presence) mod talk;
pub(in crate::presence) mod task;
pub(in crate::presence) mod told;
pub(in crate::presence) mod words;

pub(in crate::presence) use dialling::Dialling;
pub use words::CallStatus;
