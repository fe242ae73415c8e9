//! The file in which the last pools are kept, so that a start with every source away still serves.
//!
//! One header line, then a JSON body: `tidegate-pools 1 CRC32C LENGTH\n`, the checksum of the body in hexadecimal and its
//! length in bytes, both of a fixed width: they are put in last, so that the body need never be in memory. A file whose length or checksum does not match is not read at all: half of the pools would be worse
//! than none. It is replaced by a rename, so that a crash leaves the one before.

use std::fs::{self, File};
use std::io::{self, BufWriter, Seek, Write};
use std::path::Path;

use super::registry::Kept;

const MAGIC: &str = "tidegate-pools 1";

/// Bytes of the body that are written at once.
const PIECE: usize = 64 << 10;

/// Why a file gave no pools.
#[derive(Debug, thiserror::Error)]
pub(super) enum PersistError {
    /// It could not be read or written.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It is no file of pools, or not a whole one.
    #[error("is damaged or of another version: {0}")]
    Damaged(&'static str),
    /// Its body is not what this version writes.
    #[error("cannot be understood: {0}")]
    Body(#[from] serde_json::Error),
}

/// Passes bytes on, and knows their checksum and number.
struct Summed<W> {
    into: W,
    sum: u32,
    length: usize,
}

/// Reads a file; nothing where there is none.
pub(super) fn load(path: &Path) -> Result<Vec<Kept>, PersistError> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    decode(&bytes)
}

/// Replaces a file. Blocks while the disk does.
pub(super) fn store(path: &Path, shards: &[Kept]) -> Result<(), PersistError> {
    let new = path.with_extension("new");
    let mut file = File::create(&new)?;
    encode(&mut file, shards)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    if let Some(directory) = path.parent().filter(|it| !it.as_os_str().is_empty()) {
        File::open(directory)?.sync_all()?;
    }
    Ok(())
}

fn encode(mut file: impl Write + Seek, shards: &[Kept]) -> Result<(), PersistError> {
    file.write_all(header(0, 0).as_bytes())?;
    let mut body = BufWriter::with_capacity(PIECE, Summed { into: &mut file, sum: 0, length: 0 });
    serde_json::to_writer(&mut body, shards)?;
    let Summed { sum, length, .. } = body.into_inner().map_err(io::IntoInnerError::into_error)?;
    file.rewind()?;
    file.write_all(header(sum, length).as_bytes())?;
    Ok(())
}

fn header(sum: u32, length: usize) -> String {
    format!("{MAGIC} {sum:08x} {length:020}\n")
}

fn decode(bytes: &[u8]) -> Result<Vec<Kept>, PersistError> {
    let damaged = PersistError::Damaged;
    let end = bytes.iter().position(|byte| *byte == b'\n').ok_or(damaged("no header"))?;
    let (header, body) = bytes.split_at_checked(end + 1).ok_or(damaged("no header"))?;
    let header = std::str::from_utf8(header).map_err(|_| damaged("no header"))?;
    let numbers = header.trim_end().strip_prefix(MAGIC).ok_or(damaged("no header"))?;
    let (sum, length) = numbers.trim_start().split_once(' ').ok_or(damaged("no header"))?;
    if length.parse() != Ok(body.len()) {
        return Err(damaged("its length is not the one written"));
    }
    if u32::from_str_radix(sum, 16) != Ok(crc32c::crc32c(body)) {
        return Err(damaged("its checksum is not the one written"));
    }
    Ok(serde_json::from_slice(body)?)
}

// === impl Summed ===

impl<W: Write> Write for Summed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.into.write_all(bytes)?;
        self.sum = crc32c::crc32c_append(self.sum, bytes);
        self.length += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.into.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::SystemTime;

    use super::*;
    use crate::endpoints::pool::{Endpoint, PoolContent, PoolId};

    fn kept() -> Vec<Kept> {
        let endpoint = Endpoint { zone: Some("a".into()), ..Endpoint::new("10.0.0.1".parse().unwrap(), 80) };
        let live = PoolContent {
            id: PoolId::parse("east/shop/a/http").unwrap(),
            endpoints: [endpoint].into(),
            namespace: Some("shop".into()),
            labels: Arc::default(),
            relayed: None,
        };
        let (live, held, joins) = (vec![live], Vec::new(), Vec::new());
        vec![Kept {
            name: "east".into(),
            synced_at: SystemTime::UNIX_EPOCH,
            live,
            held,
            joins,
            origins: Vec::new(),
            hosts: None,
            host_owners: Default::default(),
        }]
    }

    #[test]
    fn what_was_written_is_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pools.snapshot");
        assert!(load(&path).unwrap().is_empty(), "no file is no pools, and no error");
        store(&path, &kept()).unwrap();
        let read = load(&path).unwrap();
        assert_eq!((&*read[0].name, &read[0].live), ("east", &kept()[0].live));
    }

    #[test]
    fn a_file_that_is_not_whole_is_not_read_at_all() {
        let mut whole = io::Cursor::new(Vec::new());
        encode(&mut whole, &kept()).unwrap();
        let whole = whole.into_inner();
        for end in [0, 5, 20, whole.len() / 2, whole.len() - 1] {
            assert!(matches!(decode(&whole[..end]), Err(PersistError::Damaged(_))), "{end}");
        }
        let mut flipped = whole.clone();
        let middle = flipped.len() - 10;
        flipped[middle] ^= 1;
        assert!(matches!(decode(&flipped), Err(PersistError::Damaged(_))));
    }
}
