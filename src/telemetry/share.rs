//! A share of all requests, chosen by a number that everything of one trace has in common.
//!
//! Whoever has the same number is chosen by every part and every sidecar alike, and a larger share holds all that a smaller one
//! does: lines and spans of one trace stay together. The rule is OpenTelemetry's (probability sampling by the last 56 bits of a
//! trace's id). Never asks chance itself.

use super::live::RequestId;

/// Random bits that the rule looks at.
const BITS: u32 = 56;
const MASK: u64 = (1 << BITS) - 1;

/// A share: what it takes has a number that is not below this one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share(u64);

impl Share {
    /// Everything.
    pub const ALL: Self = Self(0);

    /// From nothing (0) to everything (1).
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        clippy::cast_sign_loss,
        reason = "from 0 to 2^56, of which a float keeps the first 53 bits"
    )]
    pub fn of(ratio: f64) -> Self {
        let left_out = (1.0 - ratio.clamp(0.0, 1.0)) * (1u64 << BITS) as f64;
        Self(left_out.round() as u64)
    }

    /// As a number from 0 to 1, with nine decimals.
    #[must_use]
    #[expect(
        clippy::cast_precision_loss,
        reason = "as for the way in; nine decimals are left of it"
    )]
    pub fn ratio(self) -> f64 {
        let ratio = ((1u64 << BITS) - self.0) as f64 / (1u64 << BITS) as f64;
        (ratio * 1e9).round() / 1e9
    }

    /// Whether nothing is left out.
    #[must_use]
    pub fn is_all(self) -> bool {
        self == Self::ALL
    }

    /// Whether it holds what has that number.
    #[must_use]
    pub fn takes(self, number: u64) -> bool {
        number & MASK >= self.0
    }
}

/// The number of a request that is in no trace: the same wherever its id is the same.
#[must_use]
pub fn number_of(id: &RequestId) -> u64 {
    // FNV-1a, whose low bits murmur's finalizer mixes: clients may count their ids up.
    let fnv = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    let hash = id.as_bytes().iter().fold(0xcbf2_9ce4_8422_2325, fnv);
    let hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    let hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(n: u32) -> RequestId {
        RequestId::Kept(format!("request-{n}").into_bytes().into())
    }

    #[test]
    fn a_share_takes_its_part_of_ids_that_count_up() {
        for ratio in [0.01, 0.1, 0.5] {
            let share = Share::of(ratio);
            let taken = (0..100_000).filter(|&n| share.takes(number_of(&counted(n))));
            let part = f64::from(u32::try_from(taken.count()).unwrap()) / 100_000.0;
            // Four standard deviations of a fair coin of that side.
            let off = 4.0 * (ratio * (1.0 - ratio) / 100_000.0).sqrt();
            assert!((part - ratio).abs() < off, "{part} of {ratio}");
        }
    }

    #[test]
    fn a_larger_share_holds_all_of_a_smaller_one() {
        let (small, large) = (Share::of(0.1), Share::of(0.3));
        let in_small = (0..10_000)
            .map(|n| number_of(&counted(n)))
            .filter(|&number| small.takes(number));
        assert!(in_small.clone().count() > 500);
        assert!(in_small.into_iter().all(|number| large.takes(number)));
    }

    #[test]
    fn the_ends_are_nothing_and_everything() {
        assert!(Share::of(1.0).is_all() && Share::of(1.0).takes(0));
        assert!(!Share::of(0.0).takes(u64::MAX));
        assert!(!Share::of(0.999).is_all());
        for ratio in [0.0, 0.01, 0.25, 1.0] {
            assert!((Share::of(ratio).ratio() - ratio).abs() < 1e-12);
        }
    }
}
