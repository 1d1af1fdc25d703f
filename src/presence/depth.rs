//! How deep JSON from somebody unknown is nested, counted in one pass before anything recurses.
//!
//! Never judges whether it is JSON.

/// Deepest nesting of what is read: what a token says lies five deep, and no message lies deeper.
const DEPTH_MAX: usize = 16;

/// Whether brackets outside strings are nested deeper than [`DEPTH_MAX`].
pub(super) fn is_too_deep(json: &[u8]) -> bool {
    is_deeper_than(json, DEPTH_MAX)
}

/// Whether brackets outside strings are nested deeper than that.
pub(super) fn is_deeper_than(json: &[u8], max: usize) -> bool {
    let (mut depth, mut is_string, mut is_escaped) = (0_usize, false, false);
    for byte in json {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if is_string => is_escaped = true,
            b'"' => is_string = !is_string,
            b'{' | b'[' if !is_string => depth += 1,
            b'}' | b']' if !is_string => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > max {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_is_counted_outside_strings_only() {
        assert!(!is_too_deep(
            br#"{"a":"[[[[[[[[[[[[[[[[[[[[\"[[[[[[","b":[]}"#
        ));
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert!(!is_too_deep(nested(16).as_bytes()));
        assert!(is_too_deep(nested(17).as_bytes()));
    }
}
