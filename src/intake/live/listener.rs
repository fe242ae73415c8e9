//! One who follows: what it wants, and where it stands in the ring.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::hub::Hub;
use super::ring::{Entry, Span, Subject, hash};
use crate::intake::commands::glob;

/// Entries that are looked at in one go, by a listener of names and by one of patterns, which cost more to look at.
const LOOK: usize = 8 << 10;
const LOOK_BY_PATTERN: usize = 512;
/// Names that one listener may follow.
const NAMES: usize = 1_024;

/// How a name is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A key or channel, of SUBSCRIBE.
    Channel,
    /// A glob over them, of PSUBSCRIBE.
    Pattern,
    /// A key or channel, of SSUBSCRIBE.
    Shard,
}

/// It follows as many names as it may: 1024.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("one connection may follow {NAMES} names")]
pub struct TooMany;

/// What a listener hears.
#[derive(Debug)]
pub enum Heard<'a> {
    /// A record.
    Message {
        /// By which of its names.
        kind: Kind,
        /// That name.
        name: &'a [u8],
        /// The record's key or channel.
        channel: &'a [u8],
        /// The record.
        value: &'a [u8],
    },
    /// A command, as a line of MONITOR.
    Command(&'a str),
    /// So many were not shown: they came too fast, or it reads too slowly. Where it reads far too slowly, those of other
    /// names that somebody follows are among them.
    Skipped(u64),
}

/// One who follows; what it wants is forgotten when it goes.
#[derive(Debug)]
pub struct Listener {
    hub: Arc<Hub>,
    names: [BTreeSet<Box<[u8]>>; 3],
    /// Of its channels, sorted.
    hashes: Vec<u64>,
    monitors: bool,
    next: u64,
}

// === impl Listener ===

impl Listener {
    /// One who wants nothing yet, and will hear what comes from now on.
    pub fn new(hub: Arc<Hub>) -> Self {
        hub.joined(true);
        let next = hub.end();
        Self { hub, names: Default::default(), hashes: Vec::new(), monitors: false, next }
    }

    /// Follows a name, if it does not yet.
    ///
    /// # Errors
    /// It follows too many.
    pub fn subscribe(&mut self, kind: Kind, name: &[u8]) -> Result<(), TooMany> {
        let all: usize = self.names.iter().map(BTreeSet::len).sum();
        let Some(names) = self.names.get_mut(kind as usize).filter(|names| !names.contains(name)) else {
            return Ok(());
        };
        if all >= NAMES {
            return Err(TooMany);
        }
        names.insert(name.into());
        self.hub.want(kind, name, true);
        self.hash_names();
        Ok(())
    }

    /// Follows a name no more, if it did.
    pub fn unsubscribe(&mut self, kind: Kind, name: &[u8]) {
        if self.names.get_mut(kind as usize).is_some_and(|names| names.remove(name)) {
            self.hub.want(kind, name, false);
            self.hash_names();
        }
    }

    fn hash_names(&mut self) {
        let [channels, _, shards] = &self.names;
        self.hashes = channels.iter().chain(shards).map(|name| hash(name)).collect();
        self.hashes.sort_unstable();
    }

    /// Follows commands.
    pub fn monitor(&mut self) {
        if !std::mem::replace(&mut self.monitors, true) {
            self.hub.monitor(true);
        }
    }

    /// Whether it follows commands.
    pub fn monitors(&self) -> bool {
        self.monitors
    }

    /// The names of a kind that it follows.
    pub fn names(&self, kind: Kind) -> &BTreeSet<Box<[u8]>> {
        let [channels, patterns, shards] = &self.names;
        match kind {
            Kind::Channel => channels,
            Kind::Pattern => patterns,
            Kind::Shard => shards,
        }
    }

    /// Hears what came since the last time: of channels that are `allowed`, and about `room` bytes of it, the newest. Of
    /// those before them it is told the number.
    pub fn collect(&mut self, allowed: impl Fn(&[u8]) -> bool, room: usize, mut hear: impl FnMut(Heard<'_>)) {
        let look = if self.names(Kind::Pattern).is_empty() { LOOK } else { LOOK_BY_PATTERN };
        let span = Span { from: self.next, look, room };
        let read = self.hub.read(span, |subject, entry| match subject {
            Subject::Channel(hash) => self.may_want(hash, entry),
            Subject::Commands => self.monitors,
        });
        self.next = read.next;
        let (mut shown, mut skipped, mut bytes) = (0, read.missed, 0);
        for entry in &read.entries {
            match &**entry {
                Entry::Record { channel, value } if self.wants(&channel.name) && allowed(&channel.name) => {
                    // One record is told once for each name that fits: what was read may be more than there is room for.
                    if bytes >= room {
                        skipped += 1;
                        continue;
                    }
                    bytes += self.tell(&channel.name, value, &mut hear);
                    shown += 1;
                }
                Entry::Command(line) if self.monitors => {
                    shown += 1;
                    hear(Heard::Command(line));
                }
                Entry::Skipped { channel: Some(channel), count }
                    if self.wants(&channel.name) && allowed(&channel.name) =>
                {
                    skipped += count;
                }
                Entry::Skipped { channel: None, count } if self.monitors => skipped += count,
                Entry::Record { .. } | Entry::Command(_) | Entry::Skipped { .. } => {}
            }
        }
        if skipped > 0 {
            hear(Heard::Skipped(skipped));
        }
        if shown + skipped > 0 {
            self.hub.count(shown, skipped);
        }
    }

    /// False only where it does not want the channel: two of them may have one hash.
    fn may_want(&self, hash: u64, entry: &Entry) -> bool {
        if self.hashes.binary_search(&hash).is_ok() {
            return true;
        }
        let patterns = self.names(Kind::Pattern);
        let (Entry::Record { channel, .. } | Entry::Skipped { channel: Some(channel), .. }) = entry else {
            return false;
        };
        patterns.iter().any(|pattern| glob::matches(pattern, &channel.name))
    }

    fn wants(&self, channel: &[u8]) -> bool {
        let [channels, patterns, shards] = &self.names;
        channels.contains(channel)
            || shards.contains(channel)
            || patterns.iter().any(|pattern| glob::matches(pattern, channel))
    }

    /// Once for each name that fits, as in Redis; gives the bytes.
    fn tell(&self, channel: &[u8], value: &[u8], hear: &mut impl FnMut(Heard<'_>)) -> usize {
        let mut bytes = 0;
        let mut message = |kind, name: &[u8]| {
            bytes += value.len() + channel.len() + name.len() + 32;
            hear(Heard::Message { kind, name, channel, value });
        };
        for kind in [Kind::Channel, Kind::Shard] {
            if self.names(kind).contains(channel) {
                message(kind, channel);
            }
        }
        for pattern in self.names(Kind::Pattern).iter().filter(|pattern| glob::matches(pattern, channel)) {
            message(Kind::Pattern, pattern);
        }
        bytes
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        for (kind, names) in [Kind::Channel, Kind::Pattern, Kind::Shard].into_iter().zip(&self.names) {
            names.iter().for_each(|name| self.hub.want(kind, name, false));
        }
        if self.monitors {
            self.hub.monitor(false);
        }
        self.hub.joined(false);
    }
}

#[cfg(test)]
mod tests {
    use super::super::ring::Channel;
    use super::*;

    fn record(channel: &str, value: &str) -> Entry {
        Entry::Record { channel: Channel::new(channel.as_bytes()), value: value.as_bytes().into() }
    }

    fn heard(listener: &mut Listener, room: usize) -> Vec<String> {
        let mut heard = Vec::new();
        let allowed = |channel: &[u8]| !channel.starts_with(b"secret");
        listener.collect(allowed, room, |one| {
            heard.push(match one {
                Heard::Message { kind, value, .. } => format!("{kind:?} {}", String::from_utf8_lossy(value)),
                Heard::Command(line) => line.to_owned(),
                Heard::Skipped(count) => format!("skipped {count}"),
            });
        });
        heard
    }

    #[test]
    fn it_hears_what_it_wants_once_for_each_name_and_nothing_that_it_may_not() {
        let hub = Arc::new(Hub::default());
        let mut listener = Listener::new(hub.clone());
        listener.subscribe(Kind::Channel, b"app-a").unwrap();
        listener.subscribe(Kind::Pattern, b"*").unwrap();
        let entries = [record("app-a", "1"), record("app-b", "2"), record("secret", "3")];
        hub.publish(entries.into_iter());
        assert_eq!(heard(&mut listener, 1_000), ["Channel 1", "Pattern 1", "Pattern 2"]);
        listener.unsubscribe(Kind::Pattern, b"*");
        hub.publish([record("app-b", "4"), record("app-a", "5")].into_iter());
        assert_eq!(heard(&mut listener, 1_000), ["Channel 5"]);
    }

    #[test]
    fn who_has_no_room_or_comes_late_is_told_how_many_it_was_not_shown() {
        let hub = Arc::new(Hub::default());
        let mut listener = Listener::new(hub.clone());
        listener.subscribe(Kind::Channel, b"a").unwrap();
        hub.publish((0..5).map(|number| record("a", &number.to_string())));
        assert_eq!(heard(&mut listener, 1), ["Channel 4", "skipped 4"]);
        hub.publish((0..LOOK + 10).map(|number| record("a", &number.to_string())));
        let late = heard(&mut listener, usize::MAX);
        assert_eq!((late.len(), late.last().unwrap().as_str()), (LOOK + 1, "skipped 10"));
        hub.publish([Entry::Skipped { channel: Some(Channel::new(b"a")), count: 3 }].into_iter());
        hub.publish([Entry::Skipped { channel: Some(Channel::new(b"b")), count: 9 }].into_iter());
        assert_eq!(heard(&mut listener, 1), ["skipped 3"]);
    }

    #[test]
    fn what_is_listened_to_has_a_version_and_is_forgotten_with_its_last_listener() {
        let hub = Arc::new(Hub::default());
        assert_eq!(hub.version(), 0);
        let mut first = Listener::new(hub.clone());
        first.subscribe(Kind::Channel, b"a").unwrap();
        first.subscribe(Kind::Channel, b"a").unwrap();
        let version = hub.version();
        let mut second = Listener::new(hub.clone());
        second.subscribe(Kind::Channel, b"a").unwrap();
        assert_eq!(hub.version(), version, "nothing new is wanted");
        drop(first);
        assert!(hub.interest().has(b"a"));
        drop(second);
        assert!(!hub.interest().has(b"a") && hub.version() > version);
        assert_eq!(hub.number(Kind::Channel), 0);
    }

    #[test]
    fn names_are_bounded() {
        let mut listener = Listener::new(Arc::new(Hub::default()));
        for number in 0..NAMES {
            listener.subscribe(Kind::Shard, number.to_string().as_bytes()).unwrap();
        }
        assert_eq!(listener.subscribe(Kind::Channel, b"x"), Err(TooMany));
        assert_eq!(listener.subscribe(Kind::Shard, b"0"), Ok(()));
    }
}
