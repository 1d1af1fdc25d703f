//! Account keys: a name and a password that the account's own servers show, instead of a token.
//!
//! Passwords are compared by their digests, all of them and to the end, so that time tells nothing about a secret.

use sha2::{Digest as _, Sha256};

use crate::presence::settings::SecretText;

/// The digest of a secret.
#[derive(Clone)]
pub(super) struct Fingerprint([u8; 32]);

impl Fingerprint {
    pub(super) fn of(secret: &SecretText) -> Self {
        Self(Sha256::digest(&secret.0).into())
    }

    fn is(&self, shown: &Self) -> bool {
        let pairs = self.0.iter().zip(&shown.0);
        pairs.fold(0, |differs, (a, b)| differs | (a ^ b)) == 0
    }
}

/// Whether the password is one of those.
pub(super) fn is_any(known: &[Fingerprint], password: &str) -> bool {
    let shown = Fingerprint(Sha256::digest(password).into());
    let found = known.iter().filter(|one| one.is(&shown));
    found.count() > 0
}
