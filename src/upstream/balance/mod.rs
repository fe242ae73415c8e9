//! Who gets a request: what is sampled from was laid out when the table was made, so that a pick is a few memory reads.
//!
//! ```text
//! plan: health, ages, shares, priorities, zones → weights      (once a change)
//! Picker: weights → Sampler | HashTable                        (once a change)
//! Picker::pick: clock, randomness, load → a place in the pool  (each request)
//! ```

mod hash_table;
mod plan;
mod sampler;

pub(super) use plan::{Candidate, Group, Plan, age_part, plan};

use self::hash_table::HashTable;
use self::sampler::Sampler;
use super::config::Balancer;
use super::random::{GOLDEN, mix};

/// How many candidates are drawn before all are looked through in order.
const DRAWS: u64 = 3;

/// The layout of one pool's endpoints for one balancer.
#[derive(Debug)]
pub(super) struct Picker {
    balancer: Balancer,
    /// Those of this instance's zone, where zones matter; empty elsewhere.
    near: Set,
    far: Set,
    /// The part of requests that stays near, of 2³².
    near_part: u64,
    /// For a consistent hash; zones are not looked at there, because keys would be placed by zone.
    table: Option<HashTable>,
}

/// Endpoints that are sampled together.
#[derive(Debug, Default)]
struct Set {
    /// Places in the pool.
    places: Box<[u32]>,
    weights: Box<[u64]>,
    sampler: Sampler,
}

/// An endpoint to lay out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    /// Its place in the pool.
    pub(super) place: u32,
    /// Its part beside the others; at least 1.
    pub(super) weight: u64,
    /// A hash of what it is.
    pub(super) id: u64,
    /// Whether it is in this instance's zone.
    pub(super) near: bool,
}

/// What one pick goes by.
#[derive(Clone, Copy, Debug)]
pub(super) struct Draw {
    pub(super) random: u64,
    pub(super) hash: Option<u64>,
}

/// What a pick looks at that changes from request to request.
pub(super) trait View {
    /// Whether an endpoint may take this request.
    fn is_usable(&self, place: u32) -> bool;
    /// Its requests in flight.
    fn in_flight(&self, place: u32) -> u32;
    /// How long it should take to answer, in seconds; `None` while that is not known.
    fn latency(&self, place: u32) -> Option<f32>;
    /// A number that is one more each time.
    fn turn(&self) -> u64;
}

// === impl Picker ===

impl Picker {
    /// Lays out endpoints. `near_part` of the requests stay with those that are near; `before` is the pool's layout of
    /// until now, whose hash table is changed rather than made anew.
    pub(super) fn new(balancer: Balancer, entries: &[Entry], near_part: f64, before: Option<&Self>) -> Self {
        if balancer == Balancer::ConsistentHash {
            let table = HashTable::new(entries, before.and_then(|before| before.table.as_ref()));
            let far = Set::new(entries.iter());
            return Self { balancer, near: Set::default(), far, near_part: 0, table: Some(table) };
        }
        if near_part <= 0.0 {
            return Self { balancer, near: Set::default(), far: Set::new(entries.iter()), near_part: 0, table: None };
        }
        let (near, far) = (entries.iter().filter(|entry| entry.near), entries.iter().filter(|entry| !entry.near));
        let near_part = (near_part.min(1.0) * (1_u64 << 32) as f64) as u64;
        Self { balancer, near: Set::new(near), far: Set::new(far), near_part, table: None }
    }

    /// The place of the endpoint that takes the next request; `None` where none is usable.
    #[inline]
    pub(super) fn pick(&self, draw: Draw, view: &impl View) -> Option<u32> {
        if self.near_part == 0 {
            return self.pick_from(&self.far, draw, view);
        }
        let near = mix(draw.random ^ GOLDEN) >> 32 < self.near_part;
        let (first, second) = if near { (&self.near, &self.far) } else { (&self.far, &self.near) };
        self.pick_from(first, draw, view).or_else(|| self.pick_from(second, draw, view))
    }

    #[inline]
    fn pick_from(&self, set: &Set, draw: Draw, view: &impl View) -> Option<u32> {
        for attempt in 0..DRAWS {
            let random = if attempt == 0 { draw.random } else { mix(draw.random.wrapping_add(attempt)) };
            let place = self.draw(set, Draw { random, ..draw }, attempt, view)?;
            if view.is_usable(place) {
                return Some(place);
            }
        }
        set.scan(draw.random, view)
    }

    #[inline]
    fn draw(&self, set: &Set, draw: Draw, attempt: u64, view: &impl View) -> Option<u32> {
        let at = match (self.balancer, &self.table, draw.hash) {
            (Balancer::RoundRobin, ..) => set.sampler.in_turn(view.turn()),
            (Balancer::LeastRequest, ..) => set.better(draw.random, |one, other| set.less_loaded(one, other, view))?,
            (Balancer::PeakEwma, ..) => set.better(draw.random, |one, other| set.sooner(one, other, view))?,
            (Balancer::ConsistentHash, Some(table), Some(hash)) => {
                let hash = if attempt == 0 { hash } else { mix(hash.wrapping_add(attempt)) };
                return table.place(hash);
            }
            (Balancer::ConsistentHash, ..) => set.sampler.sample(draw.random),
        };
        set.places.get(at).copied()
    }
}

// === impl Set ===

impl Set {
    fn new<'a>(entries: impl Iterator<Item = &'a Entry>) -> Self {
        let (places, weights): (Vec<_>, Vec<_>) = entries.map(|entry| (entry.place, entry.weight.max(1))).unzip();
        Self { places: places.into(), sampler: Sampler::new(&weights), weights: weights.into() }
    }

    /// Of two that are drawn by weight the second one if `second_wins`.
    #[inline]
    fn better(&self, random: u64, second_wins: impl Fn(usize, usize) -> bool) -> Option<usize> {
        let one = self.sampler.sample(random);
        let other = self.sampler.another(one, mix(random));
        if self.places.is_empty() {
            return None;
        }
        Some(if one != other && second_wins(one, other) { other } else { one })
    }

    /// Whether the second has fewer requests in flight for its weight. As many: the first, so that weights alone decide.
    #[inline]
    fn less_loaded(&self, one: usize, other: usize, view: &impl View) -> bool {
        let load = |at: usize, beside: usize| {
            let in_flight = self.places.get(at).map_or(0, |place| view.in_flight(*place));
            u128::from(in_flight) * u128::from(self.weights.get(beside).copied().unwrap_or(1))
        };
        load(other, one) < load(one, other)
    }

    /// Whether the second should answer sooner. Where one has not answered yet, requests in flight decide: it is neither
    /// flooded nor avoided.
    #[inline]
    fn sooner(&self, one: usize, other: usize, view: &impl View) -> bool {
        let latency = |at: usize| self.places.get(at).and_then(|place| view.latency(*place));
        let (Some(first), Some(second)) = (latency(one), latency(other)) else {
            return self.less_loaded(one, other, view);
        };
        let queue = |at: usize| self.places.get(at).map_or(0, |place| view.in_flight(*place)) as f32 + 1.0;
        second * queue(other) < first * queue(one)
    }

    /// The first usable one from a random place on.
    #[cold]
    fn scan(&self, random: u64, view: &impl View) -> Option<u32> {
        let count = self.places.len();
        let start = usize::try_from(random % (count.max(1) as u64)).unwrap_or(0);
        let (before, after) = self.places.split_at_checked(start)?;
        after.iter().chain(before).copied().find(|place| view.is_usable(*place))
    }
}

#[cfg(test)]
mod tests;
