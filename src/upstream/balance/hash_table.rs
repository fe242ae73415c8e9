//! Consistent hashing: a key's hash leads to a slot, and each slot belongs to the endpoint that bids most for it
//! (rendezvous hashing over a fixed number of slots).
//!
//! A slot changes hands only when its owner goes, or when a newcomer bids more: what moves is exactly what the endpoint
//! that went had, or what the new one gets. Owners are a function of the endpoints alone, whatever came before, so that
//! all gateways place a key alike. One lookup is one memory read; one change costs a bid a slot and endpoint that changed.

use std::collections::{HashMap, HashSet};

use super::Entry;
use crate::upstream::random::mix;

/// A thousand endpoints have 65 each, so that their parts differ by an eighth as a rule; ten differ by one percent.
const SLOTS: u64 = 1 << 16;

/// Who owns each slot.
#[derive(Debug)]
pub(in crate::upstream) struct HashTable {
    /// Places in `owners`.
    slots: Box<[u32]>,
    owners: Box<[Owner]>,
    /// All weights are the same, so that bids compare as whole numbers.
    equal: bool,
}

#[derive(Clone, Copy, Debug)]
struct Owner {
    id: u64,
    place: u32,
    weight: u64,
}

// === impl HashTable ===

impl HashTable {
    /// The table of these endpoints; `before` spares the bids of those that it has already.
    pub(super) fn new(entries: &[Entry], before: Option<&Self>) -> Self {
        let owners: Box<[Owner]> = entries
            .iter()
            .map(|entry| Owner { id: entry.id, place: entry.place, weight: entry.weight.max(1) })
            .collect();
        let equal = owners.windows(2).all(|two| two.first().map(|it| it.weight) == two.last().map(|it| it.weight));
        let slots = match before.filter(|before| before.equal && equal && !before.slots.is_empty()) {
            Some(before) => changed(before, &owners),
            None => (0..SLOTS).filter_map(|slot| highest(slot, equal, owners.iter().enumerate())).collect(),
        };
        Self { slots, owners, equal }
    }

    /// The place of the endpoint that a hash leads to; `None` where there is none.
    #[inline]
    pub(super) fn place(&self, hash: u64) -> Option<u32> {
        let owner = self.slots.get((hash >> 48) as usize)?;
        self.owners.get(*owner as usize).map(|owner| owner.place)
    }
}

/// The slots after a change: an owner that stayed has only to be beaten by those who came.
fn changed(before: &HashTable, owners: &[Owner]) -> Box<[u32]> {
    let now: HashMap<u64, u32> = owners.iter().zip(0..).map(|(owner, at)| (owner.id, at)).collect();
    let stayed: Vec<Option<u32>> = before.owners.iter().map(|owner| now.get(&owner.id).copied()).collect();
    let known: HashSet<u64> = before.owners.iter().map(|owner| owner.id).collect();
    let came: Vec<(usize, &Owner)> =
        owners.iter().enumerate().filter(|(_, owner)| !known.contains(&owner.id)).collect();
    let slot = |(slot, was): (u64, &u32)| {
        let owner = stayed.get(*was as usize).copied().flatten();
        let owner = owner.and_then(|at| Some((at as usize, owners.get(at as usize)?)));
        match owner {
            Some(owner) => highest(slot, true, std::iter::once(owner).chain(came.iter().copied())),
            None => highest(slot, true, owners.iter().enumerate()),
        }
    };
    (0..SLOTS).zip(&before.slots).filter_map(slot).collect()
}

/// Who bids most for a slot; among equals the one with the greater id, whatever the order.
fn highest<'a>(slot: u64, equal: bool, owners: impl Iterator<Item = (usize, &'a Owner)>) -> Option<u32> {
    let seed = mix(slot.wrapping_add(1));
    let number = |owner: &Owner| mix(seed ^ owner.id);
    let found = if equal {
        owners.max_by_key(|(_, owner)| (number(owner), owner.id))
    } else {
        // With u random between 0 and 1, ln(u)/weight is greatest for each as often as its weight says.
        let unit = |bits: u64| ((bits >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
        let bid = |owner: &Owner| unit(number(owner)).ln() / owner.weight as f64;
        owners.max_by(|(_, one), (_, other)| bid(one).total_cmp(&bid(other)).then(one.id.cmp(&other.id)))
    };
    found.and_then(|(at, _)| u32::try_from(at).ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::random::hash;

    fn entries(names: impl IntoIterator<Item = u32>, weight: impl Fn(u32) -> u64) -> Vec<Entry> {
        let entry = |name: u32| Entry { place: name, weight: weight(name), id: hash(&name.to_le_bytes()), near: false };
        names.into_iter().map(entry).collect()
    }

    fn placed(table: &HashTable) -> Vec<u32> {
        (0..100_000_u32).filter_map(|key| table.place(hash(&key.to_le_bytes()))).collect()
    }

    fn moved(one: &[u32], other: &[u32]) -> f64 {
        one.iter().zip(other).filter(|(one, other)| one != other).count() as f64 / one.len() as f64
    }

    #[test]
    fn no_more_keys_move_than_the_endpoint_that_came_or_went_had() {
        for count in [2, 3, 10, 50, 200] {
            let all = HashTable::new(&entries(0..count, |_| 1), None);
            let less = HashTable::new(&entries(1..count, |_| 1), Some(&all));
            let (all, less) = (placed(&all), placed(&less));
            assert!(all.iter().zip(&less).all(|(one, other)| one == other || *one == 0), "another's key moved");
            let part = 1.0 / f64::from(count);
            assert!(moved(&all, &less) <= part + 0.02, "{count}: {}", moved(&all, &less));
            assert!(moved(&all, &less) >= part * 0.5, "{count}: {}", moved(&all, &less));
        }
    }

    #[test]
    fn what_came_before_leaves_no_trace() {
        let anew = HashTable::new(&entries(3..40, |_| 1), None);
        let other = HashTable::new(&entries((0..20).chain(50..60), |_| 1), None);
        let after = HashTable::new(&entries((3..40).rev(), |_| 1), Some(&other));
        assert_eq!(placed(&anew), placed(&after));
        let weighted = HashTable::new(&entries(3..40, |name| u64::from(name) + 1), Some(&after));
        let back = HashTable::new(&entries(3..40, |_| 9), Some(&weighted));
        assert_eq!(placed(&anew), placed(&back), "equal weights are equal whatever their number");
    }

    #[test]
    fn weights_are_kept_and_a_change_of_one_moves_no_keys_between_the_others() {
        let weight = |name: u32| if name == 0 { 300 } else { 100 };
        let heavy = placed(&HashTable::new(&entries(0..8, weight), None));
        let part = heavy.iter().filter(|name| **name == 0).count() as f64 / heavy.len() as f64;
        assert!((part - 0.3).abs() < 0.02, "{part}");
        let even = placed(&HashTable::new(&entries(0..8, |_| 100), None));
        assert!(heavy.iter().zip(&even).all(|(one, other)| one == other || *one == 0));
    }

    #[test]
    fn keys_spread_evenly_and_nothing_leads_nowhere() {
        let table = HashTable::new(&entries(0..10, |_| 1), None);
        let mut counts = [0_u32; 10];
        placed(&table).iter().for_each(|name| counts[*name as usize] += 1);
        assert!(counts.iter().all(|count| (9_300..10_700).contains(count)), "{counts:?}");
        assert_eq!(HashTable::new(&[], None).place(1), None);
        assert_eq!(HashTable::new(&[], Some(&table)).place(1), None);
        let again = HashTable::new(&entries(0..10, |_| 1), Some(&HashTable::new(&[], None)));
        assert_eq!(placed(&again), placed(&table));
    }
}
