//! Other servers of the deployment: who is registered there, and calls that ring there (B5).
//!
//! A call asks all peers at once whom they have, and waits 300 ms at most: a peer that says nothing has nobody, and the call's trace names
//! it. A device elsewhere is rung over a [road](road), one connection between two servers that is opened when it is first needed. A
//! peer answers from its own registrations, and never asks on. Never believes a peer about an account that is not configured here.

mod ask;
pub(in crate::presence) mod merge;
mod road;
mod stand_in;

pub(in crate::presence) use ask::{answer, verified};
pub(in crate::presence) use road::{Road, Roads, Word, accept};
pub(in crate::presence) use stand_in::answer as answer_there;
