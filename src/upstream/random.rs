//! Cheap randomness for balancing, and the one hash that keys and endpoints are placed by. Neither is for secrets.

/// The golden ratio's part of 2⁶⁴: steps of it visit an interval evenly, however many there are.
pub(super) const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// A generator for one thread.
#[derive(Clone, Debug)]
pub struct Random(u64);

// === impl Random ===

impl Random {
    /// A generator whose numbers follow from `seed` alone.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 random bits (SplitMix64 of Steele, Lea and Flood).
    #[inline]
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(GOLDEN);
        mix(self.0)
    }
}

impl Default for Random {
    /// A generator that nobody foresees.
    fn default() -> Self {
        use std::hash::{BuildHasher, RandomState};
        Self(RandomState::new().hash_one(0_u8))
    }
}

/// Spreads every bit over all of them.
#[inline]
pub(super) fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

/// A hash of bytes that is the same in every process and version, so that all gateways place a key alike.
#[inline]
pub fn hash(bytes: &[u8]) -> u64 {
    let mut state = GOLDEN ^ (bytes.len() as u64);
    let (words, rest) = bytes.as_chunks::<8>();
    for word in words {
        state = mix(state ^ u64::from_le_bytes(*word)).wrapping_add(GOLDEN);
    }
    let mut last = [0; 8];
    for (to, from) in last.iter_mut().zip(rest) {
        *to = *from;
    }
    mix(state ^ u64::from_le_bytes(last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_the_same_for_ever_and_differs_by_length_and_place() {
        assert_eq!(hash(b"user-1"), 0xa763_3ff0_f091_84ae);
        let texts: [&[u8]; 7] = [b"", b"\0", b"\0\0", b"12345678", b"123456780", b"012345678", b"abcdefghijklmnop"];
        let mut hashes: Vec<u64> = texts.iter().map(|text| hash(text)).collect();
        hashes.sort_unstable();
        hashes.dedup();
        assert_eq!(hashes.len(), texts.len());
    }

    #[test]
    fn a_seed_gives_its_numbers_again_and_they_fill_every_eighth_alike() {
        let numbers = |seed| {
            let mut random = Random::new(seed);
            (0..8_000).map(|_| random.next_u64()).collect::<Vec<_>>()
        };
        assert_eq!(numbers(7), numbers(7));
        assert_ne!(numbers(7), numbers(8));
        let mut eighths = [0_u32; 8];
        numbers(7).iter().for_each(|number| eighths[(number >> 61) as usize] += 1);
        assert!(eighths.iter().all(|count| (900..1_100).contains(count)), "{eighths:?}");
    }
}
