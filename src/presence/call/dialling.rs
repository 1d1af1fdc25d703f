//! Who looks for whom: calls that are told when somebody they dial may have come, gone, or changed.
//!
//! A nudge carries nothing: the call looks anew, at everybody, and finds the truth of that moment. So a burst costs one look, and a
//! late nudge is never wrong. Lives in the account's state, under its lock.

use std::sync::Arc;

use hashbrown::HashMap;
use tokio::sync::Notify;

use crate::presence::name::Name;

/// The calls of an account that dial, by those they dial.
#[derive(Debug, Default)]
pub(in crate::presence) struct Dialling(HashMap<Name, Vec<Arc<Notify>>, ahash::RandomState>);

impl Dialling {
    /// Tells the call when something happens to one of these, until it [ends](Self::end).
    pub(in crate::presence) fn begin(&mut self, who: &[Name], call: &Arc<Notify>) {
        for identity in who {
            let calls = self.0.entry_ref(identity).or_default();
            if !calls.iter().any(|known| Arc::ptr_eq(known, call)) {
                calls.push(Arc::clone(call));
            }
        }
    }

    /// Does not tell it any more.
    pub(in crate::presence) fn end(&mut self, who: &[Name], call: &Arc<Notify>) {
        for identity in who {
            if let Some(calls) = self.0.get_mut(identity) {
                calls.retain(|known| !Arc::ptr_eq(known, call));
                if calls.is_empty() {
                    self.0.remove(identity);
                }
            }
        }
    }

    /// Something happened to that identity.
    pub(in crate::presence) fn nudge(&self, identity: &Name) {
        if self.0.is_empty() {
            return;
        }
        for call in self.0.get(identity).into_iter().flatten() {
            call.notify_one();
        }
    }
}
