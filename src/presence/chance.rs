//! Chance that nobody can guess: for what proves who somebody is.

/// 128 bits; `None` where the machine has none to give.
pub(super) fn bits() -> Option<u128> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).ok()?;
    Some(u128::from_le_bytes(bytes))
}
