//! Flows in order of a number each: who is first, and what follows, while the numbers change all the time.
//!
//! A heap with four children a parent, which knows where each flow stands in it. A number that changes costs a way up or down a
//! tree of few levels, in memory that lies together: 10,000 flows have seven levels and 360 kB. A tree that is always sorted
//! costs nearly three times the instructions, for an order of which nobody looks at more than the beginning. Never scans; never
//! has a flow twice.

use smallvec::SmallVec;

/// By what flows are ordered, the least first: one number, so that two are compared without a branch.
pub(super) type Key = u128;

/// Children of a parent: with their keys and names two cache lines, read together.
const CHILDREN: usize = 4;
/// Where a flow stands that is not there.
const NOWHERE: u32 = u32::MAX;

/// Flows, each with its key.
#[derive(Debug, Default)]
pub(super) struct Order {
    /// No parent is behind one of its children.
    heap: Vec<(Key, u32)>,
    /// Where each flow stands in the heap.
    places: Vec<u32>,
}

/// What two orders by one number each make: by the first, and among equals by the second.
pub(super) fn key(first: u64, second: u64) -> Key {
    Key::from(first) << 64 | Key::from(second)
}

impl Order {
    /// Puts a flow where its key belongs, wherever it stood before.
    pub(super) fn set(&mut self, flow: usize, key: Key) {
        if self.places.len() <= flow {
            self.places.resize(flow + 1, NOWHERE);
        }
        let place = self.places[flow];
        if place == NOWHERE {
            let last = self.heap.len();
            self.heap.push((key, narrow(flow)));
            self.rise(last);
        } else {
            self.replace(place as usize, (key, narrow(flow)));
        }
    }

    /// Takes a flow out, if it is there.
    pub(super) fn remove(&mut self, flow: usize) {
        let Some(place) = self.places.get_mut(flow) else {
            return;
        };
        let place = std::mem::replace(place, NOWHERE);
        if place == NOWHERE {
            return;
        }
        let last = self.heap.pop().expect("one that stands there is there");
        if (place as usize) < self.heap.len() {
            self.replace(place as usize, last);
        }
    }

    /// The first of all, with its key.
    pub(super) fn first(&self) -> Option<(Key, usize)> {
        self.heap.first().map(|&(key, flow)| (key, flow as usize))
    }

    /// All of them in order, for a look at the beginning: each one costs a look at all that may follow it.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Key, usize)> {
        // Whatever is next is the root, or a child of one that was: of the last one they are looked at only when more is asked for.
        let (mut next, mut last) = (SmallVec::<[usize; 8]>::new(), None);
        std::iter::from_fn(move || {
            let at = match last {
                None if self.heap.is_empty() => return None,
                None => 0,
                Some(last) => {
                    next.extend(self.children(last));
                    let nearest = (0..next.len()).min_by_key(|&at| self.heap[next[at]].0)?;
                    next.swap_remove(nearest)
                }
            };
            last = Some(at);
            let (key, flow) = self.heap[at];
            Some((key, flow as usize))
        })
    }

    fn children(&self, at: usize) -> std::ops::Range<usize> {
        let first = CHILDREN * at + 1;
        first.min(self.heap.len())..(first + CHILDREN).min(self.heap.len())
    }

    /// Puts another in the place of one.
    fn replace(&mut self, at: usize, by: (Key, u32)) {
        let before = std::mem::replace(&mut self.heap[at], by).0;
        if by.0 < before {
            self.rise(at);
        } else {
            self.sink(at);
        }
    }

    /// Takes one that may be before its parents to where it belongs.
    fn rise(&mut self, mut at: usize) {
        let own = self.heap[at];
        while at > 0 {
            let parent = (at - 1) / CHILDREN;
            let above = self.heap[parent];
            if above.0 <= own.0 {
                break;
            }
            self.put(at, above);
            at = parent;
        }
        self.put(at, own);
    }

    /// Takes one that may be behind its children to where it belongs.
    fn sink(&mut self, mut at: usize) {
        let own = self.heap[at];
        while let Some(nearest) = self.nearest_child(at) {
            let below = self.heap[nearest];
            if own.0 <= below.0 {
                break;
            }
            self.put(at, below);
            at = nearest;
        }
        self.put(at, own);
    }

    /// The first of the children. Nearly all that have any have four, of which two pairs are compared before their firsts: nobody can
    /// foresee who it is, and so nothing has to be taken back.
    #[inline]
    fn nearest_child(&self, at: usize) -> Option<usize> {
        let first = CHILDREN * at + 1;
        if let Some([a, b, c, d]) = self.heap.get(first..first + CHILDREN) {
            let (left, of_left) = if b.0 < a.0 { (1, b.0) } else { (0, a.0) };
            let (right, of_right) = if d.0 < c.0 { (3, d.0) } else { (2, c.0) };
            return Some(first + if of_right < of_left { right } else { left });
        }
        self.children(at).min_by_key(|&child| self.heap[child].0)
    }

    fn put(&mut self, at: usize, entry: (Key, u32)) {
        self.heap[at] = entry;
        self.places[entry.1 as usize] = narrow(at);
    }
}

/// Flows are as many as waiters at most.
fn narrow(index: usize) -> u32 {
    u32::try_from(index).expect("there are fewer flows than 2^32")
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;

    proptest! {
        // Whatever is put in, moved and taken out, the order is that of a sorted set.
        #[test]
        fn flows_come_in_the_order_of_their_keys(
            steps in prop::collection::vec((0..40_usize, prop::option::of(0..500_u128)), 0..400),
        ) {
            let (mut order, mut keys) = (Order::default(), BTreeMap::new());
            for (flow, key) in steps {
                // Keys of their own: which of two equals is first is nobody's business.
                match key.map(|key| key * 100 + flow as Key) {
                    Some(key) => {
                        order.set(flow, key);
                        keys.insert(flow, key);
                    }
                    None => {
                        order.remove(flow);
                        keys.remove(&flow);
                    }
                }
                let sorted: BTreeSet<_> = keys.iter().map(|(flow, key)| (*key, *flow)).collect();
                prop_assert_eq!(order.first(), sorted.first().copied());
                prop_assert!(order.iter().eq(sorted));
            }
        }
    }
}
