//! The files that a configuration was read from, and whether they still say the same.
//!
//! Told by content, not by inode or time: what Kubernetes mounts from a ConfigMap or a Secret changes by a link that is
//! pointed elsewhere, an editor writes a new file in the old one's place, and `touch` changes nothing.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

/// The files of one reading. Equal to another reading where all keys named the same files with the same content.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Files(Vec<NamedFile>);

/// One file as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
struct NamedFile {
    /// The key that names it; empty for the configuration itself.
    key: String,
    path: PathBuf,
    /// A hash of its content; `None`: it could not be read.
    print: Option<u64>,
}

// === impl Files ===

impl Files {
    /// Notes a file and what was read of it.
    pub(super) fn note(&mut self, key: &str, path: &Path, content: Option<&[u8]>) {
        self.0.push(NamedFile { key: key.to_owned(), path: path.to_owned(), print: content.map(print) });
    }

    /// The same files as they are now. Reads each of them: it blocks.
    pub fn look(&self) -> Self {
        let now = |file: &NamedFile| NamedFile {
            print: std::fs::read(&file.path).ok().as_deref().map(print),
            ..file.clone()
        };
        Self(self.0.iter().map(now).collect())
    }

    /// The keys that name a file here whose content differs from what the same key and path had in `before`.
    pub(super) fn changed_since<'a>(&'a self, before: &'a Self) -> impl Iterator<Item = &'a str> {
        let differs = |file: &&NamedFile| {
            before.0.iter().any(|old| (&old.key, &old.path) == (&file.key, &file.path) && old.print != file.print)
        };
        self.0.iter().filter(differs).map(|file| file.key.as_str())
    }
}

fn print(content: &[u8]) -> u64 {
    // Its keys are fixed, so that two readings compare.
    let mut hasher = DefaultHasher::new();
    content.hash(&mut hasher);
    hasher.finish()
}
