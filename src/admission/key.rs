//! The identity of one count: a limit's scope and the values of its dimensions.
//!
//! A lookup never builds a key: the hash is mixed from hashes that the class and the policy carry already, and
//! equality is compared value by value in place. Only the first request of a key makes one. Never compares by hash alone.

use std::sync::{Arc, LazyLock};

use smallvec::SmallVec;

use super::class::{Class, ClientNetwork};
use super::policy::Labels;

/// What a limit counts on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dimension {
    /// Each account by itself.
    Account,
    /// Each resource by itself.
    Resource,
    /// Each group by itself; accounts without one share the value `-`.
    Group,
    /// Each upstream by itself.
    Upstream,
    /// Each client network by itself.
    ClientNetwork,
    /// This process as a whole.
    Process,
    /// A header or path value: the index into [`Class::values`].
    Value(u8),
}

/// A name with its hash, for what is named in the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    name: Arc<str>,
    hash: u64,
}

impl Label {
    /// Takes over a name.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            hash: hash(name.as_bytes()),
        }
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }
}

/// The value of a dimension that a request does not have.
const ABSENT: &[u8] = b"-";

/// Hash of a byte string under this process's random seed.
///
/// The seed keeps a client that chooses account names from choosing collisions.
pub(super) fn hash(bytes: &[u8]) -> u64 {
    static STATE: LazyLock<ahash::RandomState> = LazyLock::new(ahash::RandomState::new);
    STATE.hash_one(bytes)
}

/// The key of a class under one scope, not yet made: enough to find its cell.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lookup<'a> {
    pub(super) scope: u64,
    pub(super) dimensions: &'a [Dimension],
    pub(super) class: &'a Class,
    pub(super) labels: &'a Labels,
}

impl<'a> Lookup<'a> {
    /// Mixed with an odd multiplier after every value (the golden ratio's, as in Knuth 6.4), so that order counts.
    pub(super) fn hash(&self) -> u64 {
        let mut mixed = self.scope.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        for &dimension in self.dimensions {
            mixed = (mixed.rotate_left(23) ^ self.value(dimension).1)
                .wrapping_mul(0x9E37_79B9_7F4A_7C15);
        }
        mixed ^ (mixed >> 32)
    }

    fn value(&self, dimension: Dimension) -> (&'a [u8], u64) {
        let label = |label: &'a Label| (label.name.as_bytes(), label.hash);
        match dimension {
            Dimension::Account => (self.class.account.as_bytes(), self.class.account.hash()),
            Dimension::Resource => {
                label(&self.labels.resources[usize::from(self.class.resource.0)])
            }
            Dimension::Upstream => {
                label(&self.labels.upstreams[usize::from(self.class.upstream.0)])
            }
            Dimension::Group => match self.class.group {
                Some(group) => label(&self.labels.groups[usize::from(group.0)]),
                None => (ABSENT, 0),
            },
            Dimension::ClientNetwork => match &self.class.network {
                // Under the seed too: who owns a /32 of IPv6 chooses among millions of networks.
                Some(network) => (network.as_bytes(), hash(network.as_bytes())),
                None => (ABSENT, 1),
            },
            Dimension::Process => (ABSENT, 2),
            Dimension::Value(index) => {
                let value = &self.class.values[usize::from(index)];
                (value.as_bytes(), value.hash())
            }
        }
    }

    pub(super) fn to_key(self) -> Key {
        let mut values = SmallVec::new();
        for &dimension in self.dimensions {
            let value = self.value(dimension).0;
            values.push(u8::try_from(value.len()).expect("no value is longer than 128 bytes"));
            values.extend_from_slice(value);
        }
        Key {
            scope: self.scope,
            values,
        }
    }
}

/// The identity of a cell: its scope, and each value behind its length byte.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Key {
    scope: u64,
    /// Inline up to an account of 38 characters: so many bytes are left in a cell's two cache lines.
    values: SmallVec<[u8; 39]>,
}

impl Key {
    pub(super) fn scope(&self) -> u64 {
        self.scope
    }

    pub(super) fn matches(&self, lookup: &Lookup<'_>) -> bool {
        if self.scope != lookup.scope {
            return false;
        }
        let mut rest = &*self.values;
        for &dimension in lookup.dimensions {
            let value = lookup.value(dimension).0;
            let Some((&length, tail)) = rest.split_first() else {
                return false;
            };
            if usize::from(length) != value.len() || tail.get(..value.len()) != Some(value) {
                return false;
            }
            rest = &tail[value.len()..];
        }
        rest.is_empty()
    }

    /// The values in the order of the dimensions.
    pub(super) fn values(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = &*self.values;
        std::iter::from_fn(move || {
            let (&length, tail) = rest.split_first()?;
            let (value, tail) = tail.split_at(usize::from(length));
            rest = tail;
            Some(value)
        })
    }
}

/// A key's value as people read it.
pub(super) fn readable(dimension: Dimension, value: &[u8]) -> String {
    match dimension {
        Dimension::ClientNetwork => ClientNetwork::from_bytes(value)
            .map_or_else(|| "-".into(), |network| network.to_string()),
        _ => String::from_utf8_lossy(value).into_owned(),
    }
}
