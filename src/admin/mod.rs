//! The admin API.

use crate::proxy::Address;

/// What the admin API is told.
#[derive(Clone, PartialEq, Eq)]
pub struct Settings {
    /// Where it listens.
    pub address: Address,
    /// The bearer token that every call but `/live` and `/ready` must show.
    pub token: Option<String>,
}

impl std::fmt::Debug for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let token = self.token.as_ref().map(|_| "…");
        f.debug_struct("Settings").field("address", &self.address).field("token", &token).finish()
    }
}
