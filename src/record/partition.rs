//! Which partition a record goes to. The choice is made at intake, so that order holds whatever happens later.

/// How one record's partition is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PartitionChoice<'a> {
    /// Wherever the batch goes.
    Sticky,
    /// By this hash.
    Hash(u32),
    /// By the hash of these bytes, which also become the record's key in Kafka.
    Key(&'a [u8]),
}

// === impl PartitionChoice ===

impl PartitionChoice<'_> {
    /// The partition among `partitions`, or nothing where any will do.
    pub fn among(&self, partitions: u32) -> Option<u32> {
        let hash = match self {
            Self::Sticky => return None,
            Self::Hash(hash) => *hash,
            Self::Key(key) => murmur2(key),
        };
        // As Kafka's `Utils.toPositive`: the sign bit is dropped, not negated.
        (hash & 0x7fff_ffff).checked_rem(partitions)
    }
}

/// Kafka's murmur2 (`org.apache.kafka.common.utils.Utils.murmur2`), so that records with a key land where every other
/// Kafka producer would put them.
pub fn murmur2(bytes: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    const SEED: u32 = 0x9747_b28c;
    // The Java original folds the length in as a 32-bit int.
    #[expect(clippy::cast_possible_truncation, reason = "records are far below 4 GiB, and Java truncates as well")]
    let mut hash = SEED ^ (bytes.len() as u32);
    let mut words = bytes.chunks_exact(4);
    for word in &mut words {
        let mut k = word.iter().rev().fold(0, |k, &byte| k << 8 | u32::from(byte)).wrapping_mul(M);
        k ^= k >> 24;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    let tail = words.remainder();
    if !tail.is_empty() {
        hash ^= tail.iter().rev().fold(0, |k, &byte| k << 8 | u32::from(byte));
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ (hash >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_land_where_kafkas_own_producer_puts_them() {
        // From Kafka's UtilsTest.testMurmur2.
        let known: [(&str, i32); 6] = [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
        ];
        for (key, hash) in known {
            assert_eq!(murmur2(key.as_bytes()).cast_signed(), hash, "{key}");
        }
    }

    #[test]
    fn every_choice_is_a_partition_that_exists() {
        assert_eq!(PartitionChoice::Sticky.among(4), None);
        assert_eq!(PartitionChoice::Hash(u32::MAX).among(4), Some(3));
        assert_eq!(PartitionChoice::Key(b"21").among(1), Some(0));
        assert_eq!(PartitionChoice::Key(b"21").among(0), None);
    }
}
