//! The file in which a client keeps what it has, so that a start with every server away still serves.
//!
//! JSON, replaced by a rename after a sync: a crash leaves the one before. What does not parse is passed over with a
//! warning, for it is no worse than no file.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::wire::{Host, Pool};

/// What is kept.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Kept {
    pub(super) pools: Vec<Pool>,
    #[serde(default)]
    pub(super) hosts: Option<Vec<Host>>,
}

/// Reads a file; nothing where there is none, or none that serves.
pub(super) fn load(path: &Path) -> Option<Kept> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(error) => {
            tracing::warn!(file = %path.display(), %error, "the last known pools cannot be read");
            return None;
        }
    };
    match serde_json::from_slice(&bytes) {
        Ok(kept) => Some(kept),
        Err(error) => {
            tracing::warn!(file = %path.display(), %error, "the file of last known pools is damaged and not used");
            None
        }
    }
}

/// Replaces a file. Blocks while the disk does.
pub(super) fn store(path: &Path, kept: &Kept) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let new = path.with_file_name(name);
    let mut file = File::create(&new)?;
    file.write_all(&serde_json::to_vec(kept)?)?;
    file.sync_all()?;
    fs::rename(&new, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_kept_is_read_and_what_is_damaged_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pools.json");
        assert!(load(&path).is_none());
        let pool = Pool { id: "a".into(), traffic_generation: Some(7), endpoints: Vec::new(), etag: "\"x\"".into() };
        store(&path, &Kept { pools: vec![pool.clone()], hosts: Some(Vec::new()) }).unwrap();
        let kept = load(&path).unwrap();
        assert_eq!((kept.pools, kept.hosts), (vec![pool], Some(Vec::new())));
        fs::write(&path, "{\"pools\":[").unwrap();
        assert!(load(&path).is_none());
    }
}
