//! What a request is, as far as admission is concerned.
//!
//! Made by `classify` from a request's head, never changed after. Account names are stored inline, so that
//! making and copying a class does not allocate. Never knows where any of it was read from.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use smallvec::SmallVec;

use super::cost::LearnedCost;

use super::key::hash;

/// Longest account name and longest header or path value that a key distinguishes, in bytes.
const NAME_MAX: usize = 128;

/// Who pays: the name of an account, 1 to 128 printable ASCII characters without space, quote or backslash.
#[derive(Clone, Copy)]
pub struct AccountName {
    hash: u64,
    len: u8,
    bytes: [u8; NAME_MAX],
}

/// Why a text is no account name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AccountNameError {
    /// Nothing between the delimiters.
    #[error("an account name is empty")]
    Empty,
    /// More than 128 bytes.
    #[error("an account name is longer than 128 characters")]
    TooLong,
    /// Holds a character outside printable ASCII, a space, a quote or a backslash.
    #[error("an account name holds a space, a quote, a backslash or a character outside ASCII")]
    BadCharacter,
}

impl AccountName {
    /// Checks and takes over a name.
    pub fn new(name: &[u8]) -> Result<Self, AccountNameError> {
        if name.is_empty() {
            return Err(AccountNameError::Empty);
        }
        if name.len() > NAME_MAX {
            return Err(AccountNameError::TooLong);
        }
        if !name
            .iter()
            .all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\'' | b'\\'))
        {
            return Err(AccountNameError::BadCharacter);
        }
        Ok(Self::checked(name))
    }

    /// Takes over a name that was one before.
    pub(super) fn checked(name: &[u8]) -> Self {
        let mut bytes = [0; NAME_MAX];
        bytes[..name.len()].copy_from_slice(name);
        let len = u8::try_from(name.len()).expect("128 fits a byte");
        Self {
            hash: hash(name),
            len,
            bytes,
        }
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(self.as_bytes()).expect("an account name is ASCII by construction")
    }

    /// The name as bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    pub(super) fn hash(&self) -> u64 {
        self.hash
    }
}

impl PartialEq for AccountName {
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash && self.as_bytes() == other.as_bytes()
    }
}

impl Eq for AccountName {}

impl std::hash::Hash for AccountName {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

impl fmt::Debug for AccountName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for AccountName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The place of a resource in the generation's list of resources.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ResourceId(pub u16);

/// The place of an upstream in the generation's list of upstreams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UpstreamId(pub u16);

/// The place of a group of accounts in the generation's list of groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupId(pub u16);

/// Who goes first when not everybody can.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Priority {
    /// Waits for the others.
    Low,
    /// What is not said otherwise.
    #[default]
    Normal,
    /// Before the others.
    High,
}

/// The network a client comes from: the /24 of an IPv4 address, the /56 of an IPv6 one.
///
/// An address is cheap to change inside such a block and dear outside it. IPv4 addresses mapped into IPv6
/// are IPv4 addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ClientNetwork {
    bytes: [u8; 8],
    is_v4: bool,
}

impl ClientNetwork {
    /// The network of one address.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(v4) => {
                let [a, b, c, _] = v4.octets();
                Self {
                    bytes: [4, a, b, c, 0, 0, 0, 0],
                    is_v4: true,
                }
            }
            IpAddr::V6(v6) => {
                let mut bytes = [6; 8];
                bytes[1..].copy_from_slice(&v6.octets()[..7]);
                Self {
                    bytes,
                    is_v4: false,
                }
            }
        }
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The network that [`as_bytes`](Self::as_bytes) came from.
    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let bytes: [u8; 8] = bytes.try_into().ok()?;
        Some(Self {
            bytes,
            is_v4: bytes[0] == 4,
        })
    }
}

impl fmt::Display for ClientNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_v4 {
            let [_, first, second, third, ..] = self.bytes;
            return write!(f, "{}/24", Ipv4Addr::new(first, second, third, 0));
        }
        let mut octets = [0; 16];
        octets[..7].copy_from_slice(&self.bytes[1..]);
        write!(f, "{}/56", Ipv6Addr::from(octets))
    }
}

/// The value of a header or path capture that a limit counts on; one that is absent, empty or longer than
/// 128 bytes is the shared value `-`, so leaving it away or blowing it up evades nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Value {
    hash: u64,
    bytes: SmallVec<[u8; 32]>,
}

impl Value {
    /// Takes over what was found in the request.
    #[must_use]
    pub fn new(found: Option<&[u8]>) -> Self {
        let bytes = found
            .filter(|bytes| !bytes.is_empty() && bytes.len() <= NAME_MAX)
            .unwrap_or(b"-");
        Self {
            hash: hash(bytes),
            bytes: SmallVec::from_slice(bytes),
        }
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn hash(&self) -> u64 {
        self.hash
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.bytes))
    }
}

/// What a request is: everything that limits can count on.
#[derive(Debug, Clone)]
pub struct Class {
    /// Who pays.
    pub account: AccountName,
    /// The kind of thing acted on.
    pub resource: ResourceId,
    /// Where it would be sent.
    pub upstream: UpstreamId,
    /// The account's group, if it is in one.
    pub group: Option<GroupId>,
    /// Who goes first.
    pub priority: Priority,
    /// How many places it takes in each limit; at least 1.
    pub cost: u32,
    /// What learns from how long it holds them.
    pub learner: Option<Arc<LearnedCost>>,
    /// It was tried before.
    pub is_retry: bool,
    /// Where it comes from; `None` behind a Unix socket.
    pub network: Option<ClientNetwork>,
    /// Header and path values that this generation's limits count on, in the order of [`super::Dimension::Value`].
    pub values: SmallVec<[Value; 2]>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn account_names_are_bounded_in_length_and_characters() {
        assert!(AccountName::new(b"AC_1.x:y%41").is_ok());
        assert!(AccountName::new(&[b'a'; 128]).is_ok());
        assert_eq!(AccountName::new(b""), Err(AccountNameError::Empty));
        assert_eq!(
            AccountName::new(&[b'a'; 129]),
            Err(AccountNameError::TooLong)
        );
        for bad in [
            &b"a b"[..],
            b"a\"b",
            b"a'b",
            b"a\\b",
            b"a\0b",
            "é".as_bytes(),
            b"a\x7f",
        ] {
            assert_eq!(
                AccountName::new(bad),
                Err(AccountNameError::BadCharacter),
                "{bad:?}"
            );
        }
    }

    #[test]
    fn case_distinguishes_accounts() {
        assert_ne!(
            AccountName::new(b"acme").unwrap(),
            AccountName::new(b"Acme").unwrap()
        );
    }

    // G19: neighbours in one block share a network, whatever the notation.
    #[test]
    fn a_network_is_the_block_that_is_dear_to_leave() {
        let network = |text: &str| ClientNetwork::of(text.parse().unwrap());
        assert_eq!(network("10.1.2.3"), network("10.1.2.250"));
        assert_eq!(network("10.1.2.3"), network("::ffff:10.1.2.9"));
        assert_ne!(network("10.1.2.3"), network("10.1.3.3"));
        assert_eq!(
            network("2001:db8:1:22ff::1"),
            network("2001:db8:1:2200:9::7")
        );
        assert_ne!(network("2001:db8:1:22ff::1"), network("2001:db8:1:2300::1"));
        assert_eq!(network("10.1.2.3").to_string(), "10.1.2.0/24");
        assert_eq!(
            network("2001:db8:1:22ff::1").to_string(),
            "2001:db8:1:2200::/56"
        );
    }

    // G18: a long or absent value has one shared key, so neither evades a limit nor grows memory.
    #[test]
    fn values_that_are_absent_empty_or_too_long_are_one() {
        let shared = Value::new(None);
        assert_eq!(Value::new(Some(b"")), shared);
        assert_eq!(Value::new(Some(&[b'x'; 129])), shared);
        assert_ne!(Value::new(Some(b"x")), shared);
    }
}
