//! A worker's side: copies of watched records, up to a rate.
//!
//! Each watched key has a bucket of its own, so that a noisy one takes nothing from a quiet one, and all of a worker
//! share one more. What finds no room is counted, and the count goes into the ring behind what was copied.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::hub::{Hub, Interest};
use super::ring::{Channel, Entry};

/// Records of one key that a worker copies in a second, and at most at once.
const KEY_RATE: u32 = 1_000;
/// The same for all keys together.
const RATE: u32 = 4_000;
/// Bytes of all of them.
const BYTE_RATE: usize = 4 << 20;
/// No larger record is copied, in bytes.
const LARGEST: usize = 256 << 10;
/// The longest line of MONITOR, in bytes.
const LINE: usize = 16 << 10;
/// Keys with a bucket; beyond, they share the last one's fate: they are not shown.
const KEYS: usize = 10_000;
/// Between refills.
const REFILL: Duration = Duration::from_millis(20);
const REFILLS: u32 = 50;

/// What a worker does for those who listen.
#[derive(Debug)]
pub(in crate::intake) struct Tap {
    hub: Arc<Hub>,
    interest: Arc<Interest>,
    places: HashMap<Box<[u8]>, u32>,
    meters: Vec<Meter>,
    commands: Meter,
    left: u32,
    bytes: usize,
    refilled: Instant,
    gathered: Vec<Entry>,
}

/// A bucket.
#[derive(Debug)]
struct Meter {
    channel: Channel,
    left: u32,
    skipped: u64,
}

// === impl Tap ===

impl Tap {
    pub(in crate::intake) fn new(hub: Arc<Hub>, now: Instant) -> Self {
        Self {
            interest: hub.interest(),
            hub,
            places: HashMap::new(),
            meters: Vec::new(),
            commands: Meter::new(&[]),
            left: RATE,
            bytes: BYTE_RATE,
            refilled: now,
            gathered: Vec::new(),
        }
    }

    /// The version of what is listened to; what was found out at another one has to be asked for again.
    #[inline]
    pub(in crate::intake) fn version(&self) -> u64 {
        self.interest.version
    }

    /// Looks once whether something else is listened to now.
    #[inline]
    pub(in crate::intake) fn look(&mut self) {
        if self.hub.version() != self.interest.version {
            self.renew();
        }
    }

    #[cold]
    fn renew(&mut self) {
        self.settle();
        self.interest = self.hub.interest();
        // Buckets of keys that nobody wants any more go; the others keep what is left in them.
        let meters = std::mem::take(&mut self.meters);
        self.places.clear();
        for meter in meters {
            if self.interest.has(&meter.channel.name) {
                self.add(meter);
            }
        }
    }

    /// The bucket of a key that somebody listens to.
    pub(in crate::intake) fn watch(&mut self, key: &[u8]) -> Option<u32> {
        if self.interest.version == 0 || !self.interest.has(key) {
            return None;
        }
        if let Some(place) = self.places.get(key) {
            return Some(*place);
        }
        (self.meters.len() < KEYS).then(|| self.add(Meter::new(key)))
    }

    fn add(&mut self, meter: Meter) -> u32 {
        let place = u32::try_from(self.meters.len()).unwrap_or(u32::MAX);
        self.places.insert((*meter.channel.name).into(), place);
        self.meters.push(meter);
        place
    }

    /// Copies a record of a watched key, or counts it.
    pub(in crate::intake) fn take(&mut self, place: u32, value: &[u8]) {
        let Some(meter) = self.meters.get_mut(place as usize) else { return };
        if meter.left == 0 || self.left == 0 || self.bytes < value.len() || value.len() > LARGEST {
            meter.skipped += 1;
            return;
        }
        meter.left -= 1;
        self.left -= 1;
        self.bytes -= value.len();
        self.gathered.push(Entry::Record { channel: meter.channel.clone(), value: value.into() });
    }

    /// Whether somebody follows commands.
    #[inline]
    pub(in crate::intake) fn is_monitored(&self) -> bool {
        self.interest.monitored
    }

    /// Notes a command for MONITOR, or counts it. `secret`: its arguments are not for others.
    pub(in crate::intake) fn overhear<'a>(
        &mut self,
        micros: u64,
        database: u32,
        address: &str,
        args: impl Iterator<Item = &'a [u8]>,
        secret: bool,
    ) {
        if self.commands.left == 0 || self.bytes < LINE {
            self.commands.skipped += 1;
            return;
        }
        let mut line = String::new();
        // Writing to a String does not fail.
        let _ = write!(line, "{}.{:06} [{database} {address}]", micros / 1_000_000, micros % 1_000_000);
        for (place, arg) in args.enumerate() {
            if secret && place > 0 {
                line.push_str(" \"(redacted)\"");
                break;
            }
            if line.len() > LINE {
                line.push_str(" \"…\"");
                break;
            }
            line.push(' ');
            quote(arg.get(..LINE).unwrap_or(arg), &mut line);
        }
        self.commands.left -= 1;
        self.bytes = self.bytes.saturating_sub(line.len());
        self.gathered.push(Entry::Command(line.into()));
    }

    /// Hands over what a turn gathered, and refills the buckets when it is time.
    #[inline]
    pub(in crate::intake) fn finish_turn(&mut self, now: Instant) {
        if self.interest.version == 0 {
            return;
        }
        if !self.gathered.is_empty() {
            self.hub.publish(self.gathered.drain(..));
        }
        let passed = now.duration_since(self.refilled);
        if passed >= REFILL {
            self.refilled = now;
            let refills = u32::try_from(passed.as_millis() / REFILL.as_millis()).unwrap_or(REFILLS).min(REFILLS);
            self.refill(refills);
            self.settle();
        }
    }

    fn refill(&mut self, refills: u32) {
        let more = |left: u32, rate: u32| (left + rate / REFILLS * refills).min(rate);
        self.left = more(self.left, RATE);
        self.bytes = (self.bytes + BYTE_RATE / REFILLS as usize * refills as usize).min(BYTE_RATE);
        for meter in self.meters.iter_mut().chain([&mut self.commands]) {
            meter.left = more(meter.left, KEY_RATE);
        }
    }

    /// Tells what was counted.
    fn settle(&mut self) {
        let told = self.meters.iter_mut().map(|meter| (true, meter)).chain([(false, &mut self.commands)]);
        let told = told.filter(|(_, meter)| meter.skipped > 0).map(|(named, meter)| Entry::Skipped {
            channel: named.then(|| meter.channel.clone()),
            count: std::mem::take(&mut meter.skipped),
        });
        let told: Vec<Entry> = told.collect();
        if !told.is_empty() {
            self.hub.publish(told.into_iter());
        }
    }
}

// === impl Meter ===

impl Meter {
    fn new(channel: &[u8]) -> Self {
        Self { channel: Channel::new(channel), left: KEY_RATE, skipped: 0 }
    }
}

/// As Redis writes an argument in MONITOR.
fn quote(arg: &[u8], line: &mut String) {
    line.push('"');
    for byte in arg {
        match byte {
            b'\\' | b'"' => line.extend(['\\', char::from(*byte)]),
            b'\n' => line.push_str("\\n"),
            b'\r' => line.push_str("\\r"),
            b'\t' => line.push_str("\\t"),
            7 => line.push_str("\\a"),
            8 => line.push_str("\\b"),
            b' '..=b'~' => line.push(char::from(*byte)),
            other => _ = write!(line, "\\x{other:02x}"),
        }
    }
    line.push('"');
}

#[cfg(test)]
mod tests {
    use super::super::listener::{Heard, Kind, Listener};
    use super::*;

    fn heard(listener: &mut Listener) -> Vec<String> {
        let mut heard = Vec::new();
        listener.collect(
            |_| true,
            usize::MAX,
            |one| {
                heard.push(match one {
                    Heard::Message { channel, value, .. } => {
                        format!("{} {}", String::from_utf8_lossy(channel), String::from_utf8_lossy(value))
                    }
                    Heard::Command(line) => line.to_owned(),
                    Heard::Skipped(count) => format!("skipped {count}"),
                });
            },
        );
        heard
    }

    #[test]
    fn a_watched_key_is_copied_up_to_its_rate_and_the_rest_is_counted() {
        let hub = Arc::new(Hub::default());
        let now = Instant::now();
        let mut tap = Tap::new(hub.clone(), now);
        assert_eq!(tap.watch(b"a"), None);
        let mut listener = Listener::new(hub);
        listener.subscribe(Kind::Channel, b"a").unwrap();
        tap.look();
        let (noisy, other) = (tap.watch(b"a").unwrap(), tap.watch(b"b"));
        assert_eq!(other, None);
        (0..KEY_RATE + 7).for_each(|_| tap.take(noisy, b"x"));
        tap.finish_turn(now);
        tap.finish_turn(now + REFILL);
        let mut got = 0;
        let mut skipped = 0;
        for line in heard(&mut listener) {
            match line.strip_prefix("skipped ") {
                Some(count) => skipped += count.parse::<u32>().unwrap(),
                None => got += 1,
            }
        }
        assert_eq!(got + skipped, KEY_RATE + 7);
        assert!(got > 0 && skipped >= 7, "{got} {skipped}");
    }

    #[test]
    fn a_quiet_key_is_shown_whole_beside_a_noisy_one() {
        let hub = Arc::new(Hub::default());
        let now = Instant::now();
        let mut quiet = Listener::new(hub.clone());
        quiet.subscribe(Kind::Channel, b"quiet").unwrap();
        let mut noisy = Listener::new(hub.clone());
        noisy.subscribe(Kind::Pattern, b"noi*").unwrap();
        let mut tap = Tap::new(hub, now);
        let [loud, soft] = [b"noisy" as &[u8], b"quiet"].map(|key| tap.watch(key).unwrap());
        (0..3_000).for_each(|_| tap.take(loud, b"x"));
        tap.take(soft, b"hello");
        tap.finish_turn(now);
        assert_eq!(heard(&mut quiet), ["quiet hello"]);
    }

    #[test]
    fn a_command_is_noted_as_redis_writes_it_and_secrets_are_not() {
        let hub = Arc::new(Hub::default());
        let now = Instant::now();
        let mut listener = Listener::new(hub.clone());
        listener.monitor();
        let mut tap = Tap::new(hub, now);
        assert!(tap.is_monitored());
        let args: [&[u8]; 3] = [b"LPUSH", b"k", b"a\"\\\r\n\x00\xff"];
        tap.overhear(1_000_007, 3, "10.0.0.1:5", args.into_iter(), false);
        tap.overhear(2_000_000, 0, "10.0.0.1:5", [&b"AUTH"[..], b"sesame"].into_iter(), true);
        tap.finish_turn(now);
        assert_eq!(
            heard(&mut listener),
            [
                r#"1.000007 [3 10.0.0.1:5] "LPUSH" "k" "a\"\\\r\n\x00\xff""#,
                r#"2.000000 [0 10.0.0.1:5] "AUTH" "(redacted)""#
            ]
        );
    }
}
