//! Contact lists: named sets of identities, kept for their owners.
//!
//! Whether the owner may see who is on a list is decided when it is read, so that a list outlives a token. Kept in memory, bounded by
//! list, by owner and by account; they are gone with the process.

use std::collections::BTreeMap;
use std::sync::Arc;

use hashbrown::HashMap;

use super::name::Name;

/// Identities of one list.
pub(super) const LIST_MAX: usize = 1_000;
/// Lists of one owner.
pub(super) const LISTS_MAX: usize = 100;
/// Identities on all lists of an account: some 20 MB beside their names.
const ACCOUNT_MAX: usize = 1_000_000;

/// A list as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct List {
    /// In the owner's order, each once.
    pub(super) identities: Arc<[Name]>,
    /// The account's version at its last change.
    pub(super) version: u64,
}

/// Why a list cannot be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum ContactsFault {
    #[error("a contact list holds up to {LIST_MAX} identities")]
    ListTooLong,
    #[error("there may be up to {LISTS_MAX} contact lists; delete one")]
    TooManyLists,
    #[error("the contact lists of this account hold as many identities as may be; delete some")]
    AccountFull,
}

/// The lists of one account.
#[derive(Debug, Default)]
pub(super) struct Contacts {
    by_owner: HashMap<Name, BTreeMap<Name, List>, ahash::RandomState>,
    total: usize,
}

impl Contacts {
    /// Keeps a list under that name; `Ok(false)` if it is there as it is. `version` is asked only for a change.
    pub(super) fn put(
        &mut self,
        owner: &Name,
        name: &Name,
        mut identities: Vec<Name>,
        version: impl FnOnce() -> u64,
    ) -> Result<bool, ContactsFault> {
        if identities.len() > LIST_MAX {
            return Err(ContactsFault::ListTooLong);
        }
        let mut seen = hashbrown::HashSet::with_capacity(identities.len());
        identities.retain(|identity| seen.insert(identity.clone()));
        let lists = self.by_owner.get(owner);
        let known = lists.and_then(|lists| lists.get(name));
        if known.is_some_and(|known| *known.identities == *identities) {
            return Ok(false);
        }
        if known.is_none() && lists.is_some_and(|lists| lists.len() >= LISTS_MAX) {
            return Err(ContactsFault::TooManyLists);
        }
        // An empty list counts too, else there could be any number of owners.
        let size = |identities: &[Name]| identities.len() + 1;
        let total = self.total - known.map_or(0, |known| size(&known.identities));
        if total + size(&identities) > ACCOUNT_MAX {
            return Err(ContactsFault::AccountFull);
        }
        self.total = total + size(&identities);
        let list = List {
            identities: identities.into(),
            version: version(),
        };
        let lists = self.by_owner.entry_ref(owner).or_default();
        lists.insert(name.clone(), list);
        Ok(true)
    }

    /// A list, if there is one of that name.
    pub(super) fn get(&self, owner: &Name, name: &Name) -> Option<&List> {
        self.by_owner.get(owner)?.get(name)
    }

    /// Deletes a list; false if there is none of that name.
    pub(super) fn delete(&mut self, owner: &Name, name: &Name) -> bool {
        let Some(lists) = self.by_owner.get_mut(owner) else {
            return false;
        };
        let Some(gone) = lists.remove(name) else {
            return false;
        };
        self.total -= gone.identities.len() + 1;
        if lists.is_empty() {
            self.by_owner.remove(owner);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::new(text).unwrap()
    }

    // B17: lists are kept as they were put, each identity once, and bounded.
    #[test]
    fn lists_are_kept_by_owner_and_bounded() {
        let mut contacts = Contacts::default();
        let alice = name("alice");
        let team = || vec![name("bob"), name("carol"), name("bob")];
        assert_eq!(contacts.put(&alice, &name("team"), team(), || 7), Ok(true));
        assert_eq!(
            contacts.put(&alice, &name("team"), team(), || unreachable!()),
            Ok(false),
            "the same list is no change"
        );
        let list = contacts.get(&alice, &name("team")).unwrap();
        assert_eq!(*list.identities, [name("bob"), name("carol")]);
        assert_eq!(contacts.get(&name("bob"), &name("team")), None);
        let long = (0..=LIST_MAX)
            .map(|number| name(&number.to_string()))
            .collect();
        assert_eq!(
            contacts.put(&alice, &name("long"), long, || 8),
            Err(ContactsFault::ListTooLong)
        );
        for number in 1..LISTS_MAX {
            let list = name(&number.to_string());
            assert_eq!(contacts.put(&alice, &list, Vec::new(), || 8), Ok(true));
        }
        assert_eq!(
            contacts.put(&alice, &name("one more"), Vec::new(), || 9),
            Err(ContactsFault::TooManyLists)
        );
        assert!(contacts.delete(&alice, &name("team")));
        assert!(!contacts.delete(&alice, &name("team")));
        for number in 1..LISTS_MAX {
            assert!(contacts.delete(&alice, &name(&number.to_string())));
        }
        assert_eq!(contacts.total, 0);
    }
}
