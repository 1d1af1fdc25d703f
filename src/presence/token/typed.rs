//! What is there has its type: the one rule by which claims are read.
//!
//! A grant of another shape than documented is refused rather than ignored, since ignoring it could allow what it was to forbid.
//! `null` is no value of any type here.

use serde_json::{Map, Value};

use super::fault::TokenFault;

/// A JSON object.
pub(super) type Object = Map<String, Value>;

/// The value under that key, if it is there; a fault naming the path if it is not of that type.
pub(super) fn field<'a, T>(
    object: &'a Object,
    key: &str,
    path: &'static str,
    of_type: impl FnOnce(&'a Value) -> Option<T>,
) -> Result<Option<T>, TokenFault> {
    let typed = object.get(key).map(of_type);
    typed
        .map(|value| value.ok_or(TokenFault::Grant(path)))
        .transpose()
}

/// A list of at most so many items of that type.
pub(super) fn list<'a, T>(
    value: &'a Value,
    longest: usize,
    of_type: impl FnMut(&'a Value) -> Option<T>,
) -> Option<Vec<T>> {
    let items = value.as_array().filter(|items| items.len() <= longest)?;
    items.iter().map(of_type).collect()
}

/// Whether the object has no other keys than these.
pub(super) fn has_only(object: &Object, keys: &[&str]) -> bool {
    object.keys().all(|key| keys.contains(&key.as_str()))
}
