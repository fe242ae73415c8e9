//! What a client has: a version by name, and one name for all of it.
//!
//! The state's name depends on its content alone, so that a client which comes back, to this process or to another
//! replica, can say in one word what it has. It is the sum of its entries' hashes, so that a change costs what changed.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use super::subscription::Name;

/// What is at a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Version {
    /// A resource of this version.
    Of(Arc<str>),
    /// Nothing, for certain.
    Absent,
}

/// Versions by name.
#[derive(Clone, Debug, Default)]
pub(super) struct State {
    versions: BTreeMap<Name, Version>,
    sum: u128,
}

// === impl Version ===

impl Version {
    /// No tag of a pool is this: those have quotes.
    const ABSENT: &str = "absent";

    /// What a client had written down.
    pub(super) fn parse(text: &str) -> Self {
        if text == Self::ABSENT { Self::Absent } else { Self::Of(text.into()) }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Of(version) => version,
            Self::Absent => Self::ABSENT,
        })
    }
}

// === impl State ===

impl State {
    pub(super) fn get(&self, name: &str) -> Option<&Version> {
        self.versions.get(name)
    }

    /// Sets or forgets the version of a name. Gives the one before.
    pub(super) fn set(&mut self, name: &str, version: Option<Version>) -> Option<Version> {
        if self.versions.get(name) == version.as_ref() {
            return version;
        }
        let added = version.as_ref().map_or(0, |version| hash(name, version));
        let before = match version {
            Some(version) => self.versions.insert(name.into(), version),
            None => self.versions.remove(name),
        };
        let removed = before.as_ref().map_or(0, |before| hash(name, before));
        self.sum = self.sum.wrapping_add(added).wrapping_sub(removed);
        before
    }

    pub(super) fn names(&self) -> Vec<Name> {
        self.versions.keys().cloned().collect()
    }

    pub(super) fn sum(&self) -> u128 {
        self.sum
    }

    /// The state's name, as [`name_of`] writes it.
    pub(super) fn name(&self) -> String {
        name_of(self.sum)
    }
}

/// The name of a state with this sum.
pub(super) fn name_of(sum: u128) -> String {
    format!("{sum:032x}")
}

fn hash(name: &str, version: &Version) -> u128 {
    let mut context = ring::digest::Context::new(&ring::digest::SHA256);
    context.update(name.as_bytes());
    context.update(b"\0");
    match version {
        Version::Of(version) => context.update(version.as_bytes()),
        Version::Absent => context.update(Version::ABSENT.as_bytes()),
    }
    let digest = context.finish();
    digest.as_ref().iter().take(16).fold(0, |sum, byte| sum << 8 | u128::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_named_by_its_content_whatever_way_it_came_about() {
        let mut one = State::default();
        let version = |text: &str| Some(Version::parse(text));
        assert_eq!(one.set("a", version("\"1\"")), None);
        one.set("b", version("absent"));
        let mut other = State::default();
        other.set("b", version("absent"));
        other.set("a", version("\"0\""));
        assert_ne!(one.name(), other.name());
        assert_eq!(other.set("a", version("\"1\"")), version("\"0\""));
        assert_eq!(one.name(), other.name());
        other.set("b", None);
        assert_ne!(one.name(), other.name());
        one.set("a", None);
        one.set("b", None);
        assert_eq!((one.sum(), one.names().len()), (0, 0));
    }
}
