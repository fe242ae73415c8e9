//! Topics with records from before their partitions were known. Such records stand in a lane of their own, and a record
//! that came later must not be delivered before them, whichever partition it goes to; nor they before one that came
//! earlier. So while that lane holds something, it and the lanes of the topic's partitions are read in the order in which
//! their records stand on disk: each up to the first record of the other that is not done.
//!
//! Where a lane's first record stands is known as a bound from below, which reading makes exact. At the bound itself
//! either may be read: only one of them has a frame there.

use std::collections::HashMap;

use super::ledger::Ledger;
use super::position::FrameId;

/// The last place at which each lane may be read, for the lanes that have one.
pub(super) fn limits(ledger: &Ledger) -> HashMap<usize, FrameId> {
    let mut limits = HashMap::new();
    for (index, state) in ledger.lanes.iter().enumerate() {
        let Some(first) = state.first().filter(|_| state.lane.partition().is_none()) else { continue };
        let siblings = ledger.lanes_of(state.lane.topic().as_str()).iter().filter(|sibling| **sibling != index);
        for &sibling in siblings {
            limits.insert(sibling, first);
            if let Some(other) = ledger.lanes.get(sibling).and_then(|sibling| sibling.first()) {
                let limit = limits.entry(index).or_insert(other);
                *limit = other.min(*limit);
            }
        }
    }
    limits
}
