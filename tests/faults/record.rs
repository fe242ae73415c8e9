//! Records that say what they are: `tgf RUN CLIENT LIFE KEY NUMBER PADDING CHECKSUM`, all of it text.
//!
//! A record belongs to a run (a scenario's own number, so that a stray one of another run is foreign), a client, the
//! client's connection (its life), a key, and is numbered by its client over all lives. The checksum, CRC32C in hex, covers
//! everything before it.

use crate::random::Random;

/// What a record says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Name {
    /// Which client pushed it.
    pub(crate) client: u32,
    /// On which of the client's connections.
    pub(crate) life: u32,
    /// The key's place among the scenario's keys.
    pub(crate) key: u32,
    /// Its number among the client's records.
    pub(crate) number: u64,
}

/// The bytes of a record, at least `size` long where the name leaves room.
pub(crate) fn write(run: u64, name: Name, size: usize, random: &mut Random) -> Vec<u8> {
    let Name { client, life, key, number } = name;
    let mut bytes = format!("tgf {run:x} {client} {life} {key} {number} ").into_bytes();
    while bytes.len() + 9 < size {
        bytes.push(b'a' + u8::try_from(random.within(0..=25)).expect("a letter"));
    }
    let checksum = crc32c::crc32c(&bytes);
    bytes.extend(format!(" {checksum:08x}").into_bytes());
    bytes
}

/// The name and checksum of a record of this run; `None` for anything else and for one that was damaged.
pub(crate) fn read(run: u64, bytes: &[u8]) -> Option<(Name, u32)> {
    let (covered, checksum) = bytes.split_at_checked(bytes.len().checked_sub(9)?)?;
    let checksum = u32::from_str_radix(std::str::from_utf8(checksum).ok()?.strip_prefix(' ')?, 16).ok()?;
    if crc32c::crc32c(covered) != checksum {
        return None;
    }
    let mut words = std::str::from_utf8(covered).ok()?.split(' ');
    if words.next() != Some("tgf") || u64::from_str_radix(words.next()?, 16) != Ok(run) {
        return None;
    }
    let name = Name {
        client: words.next()?.parse().ok()?,
        life: words.next()?.parse().ok()?,
        key: words.next()?.parse().ok()?,
        number: words.next()?.parse().ok()?,
    };
    Some((name, checksum))
}

#[test]
fn a_record_is_read_back_and_a_damaged_or_foreign_one_is_not() {
    let name = Name { client: 3, life: 2, key: 1, number: 77 };
    for size in [0, 60, 500] {
        let bytes = write(5, name, size, &mut Random::new(1));
        assert!(bytes.len() >= size && bytes.len() <= size.max(40), "{}", bytes.len());
        assert_eq!(read(5, &bytes).map(|(name, _)| name), Some(name));
        assert_eq!(read(6, &bytes), None);
        for place in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[place] ^= 1;
            assert_eq!(read(5, &damaged), None, "byte {place}");
        }
        assert_eq!(read(5, &bytes[..bytes.len() - 1]), None);
    }
    assert_eq!(read(5, b""), None);
}
