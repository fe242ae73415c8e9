//! The commands Tidegate knows: their shape on the wire, their documentation, and who answers them.
//!
//! The rows are in `specs/`. Names, arities, flags and key positions are Redis's own (a test compares them with what a
//! redis-server says); the summaries say what the command does here. A row is
//!
//! ```text
//! "name" Kind, arity N keys(first, last, step, "how the keys are used") subcommands(TABLE) [FLAGS] [CATEGORIES]
//!     "group" "since" "summary";
//! ```
//!
//! where CATEGORIES are those that the flags do not imply already, as in Redis.

use super::Answer;
use super::specs;
use crate::intake::live;

/// A command or sub-command.
#[derive(Debug)]
pub struct Spec {
    /// Its place among all specs, for sets of them.
    pub id: u16,
    /// Lower-case name; `client|id` for a sub-command.
    pub name: &'static str,
    /// What is to be done with it.
    pub kind: Kind,
    /// The number of arguments, the name included; negative: at least as many.
    pub arity: i16,
    /// Where its keys are; `None`: no key at a fixed place.
    pub keys: Option<Keys>,
    /// Empty for most commands.
    pub subcommands: &'static [Spec],
    /// Bits of [`flag`].
    pub flags: u32,
    /// Bits of [`category`].
    pub categories: u32,
    /// What it is filed under in Redis's documentation.
    pub group: &'static str,
    /// The first version of Redis that has it.
    pub since: &'static str,
    /// What it does here, in a line.
    pub summary: &'static str,
}

/// Positions of the keys among the arguments; the name is at 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keys {
    /// The first key.
    pub first: usize,
    /// The last one; negative: counted from the end, -1 is the last argument.
    pub last: i32,
    /// From one key to the next.
    pub step: usize,
    /// How the keys are used, in Redis's words.
    pub usage: &'static str,
}

/// What is to be done with a command. The session carries out the records and the transactions; all else is answered
/// by [`super::answer`].
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// LPUSH and its like: `key value [value …]`.
    Push,
    /// PUBLISH, SPUBLISH: `channel message`.
    Publish,
    /// XADD, read by [`super::xadd::xadd`].
    XAdd,
    /// SET, read by [`super::store::set`].
    Set,
    /// HSET and HMSET, read by [`super::store::hset`].
    HSet,
    /// ZADD, read by [`super::store::zadd`].
    ZAdd,
    /// MULTI.
    Multi,
    /// EXEC.
    Exec,
    /// DISCARD.
    Discard,
    /// WATCH.
    Watch,
    /// UNWATCH.
    Unwatch,
    /// QUIT.
    Quit,
    /// RESET.
    Reset,
    /// SUBSCRIBE, PSUBSCRIBE, SSUBSCRIBE.
    Subscribe(live::Kind),
    /// UNSUBSCRIBE and its like.
    Unsubscribe(live::Kind),
    /// MONITOR.
    Monitor,
    /// SENTINEL: unknown unless `cluster` is configured.
    Sentinel,
    /// A name that only means something with a sub-command.
    Container,
    /// Answered from what the connection and the server know.
    Answered(Answer),
    /// Known, and not served.
    Refused(Refusal),
}

/// Why a known command is not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It takes records out.
    Read,
    /// It keeps or changes a value.
    Store,
    /// It runs code.
    Script,
    /// It cares for a data set or for other people's connections.
    Administration,
    /// It changes the configuration.
    Configuration,
}

/// Flags of a command, in the order in which Redis lists them.
pub mod flag {
    super::bits! {
        WRITE "write", READONLY "readonly", DENYOOM "denyoom", ADMIN "admin", PUBSUB "pubsub", NOSCRIPT "noscript",
        BLOCKING "blocking", LOADING "loading", STALE "stale", SKIP_MONITOR "skip_monitor",
        SKIP_SLOWLOG "skip_slowlog", ASKING "asking", FAST "fast", NO_AUTH "no_auth",
        NO_MANDATORY_KEYS "no_mandatory_keys", NO_ASYNC_LOADING "no_async_loading", NO_MULTI "no_multi",
        MOVABLEKEYS "movablekeys", ALLOW_BUSY "allow_busy",
    }
}

/// Categories of the access control lists, in the order in which Redis lists them.
pub mod category {
    super::bits! {
        KEYSPACE "keyspace", READ "read", WRITE "write", SET "set", SORTEDSET "sortedset", LIST "list", HASH "hash",
        STRING "string", BITMAP "bitmap", HYPERLOGLOG "hyperloglog", GEO "geo", STREAM "stream", PUBSUB "pubsub",
        ADMIN "admin", FAST "fast", SLOW "slow", BLOCKING "blocking", DANGEROUS "dangerous", CONNECTION "connection",
        TRANSACTION "transaction", SCRIPTING "scripting",
    }
}

/// More than any [`Spec::id`], and a multiple of 64: the size of a set of specs.
pub const ID_LIMIT: usize = 512;

/// The spec of a command by its name in any case. The data path's names are compared first; nothing allocates.
pub fn lookup(name: &[u8]) -> Option<&'static Spec> {
    let [lpush, rpush, publish, xadd, ..] = &specs::records::RECORDS;
    let is = |spec: &Spec| name.eq_ignore_ascii_case(spec.name.as_bytes());
    match name.len() {
        5 if is(lpush) => Some(lpush),
        5 if is(rpush) => Some(rpush),
        7 if is(publish) => Some(publish),
        4 if is(xadd) => Some(xadd),
        _ => commands().find(|spec| is(spec)),
    }
}

/// All commands, without their sub-commands.
pub fn commands() -> impl Iterator<Item = &'static Spec> {
    specs::TABLES.iter().flat_map(|table| table.iter())
}

/// All commands, each followed by its sub-commands.
pub fn all() -> impl Iterator<Item = &'static Spec> {
    commands().flat_map(|spec| std::iter::once(spec).chain(spec.subcommands))
}

// === impl Spec ===

impl Spec {
    /// The name without the container's: `id` for `client|id`.
    pub fn short_name(&self) -> &'static str {
        self.name.split_once('|').map_or(self.name, |(_, short)| short)
    }

    /// The sub-command of that name, in any case.
    pub fn subcommand(&self, name: &[u8]) -> Option<&'static Spec> {
        self.subcommands.iter().find(|sub| name.eq_ignore_ascii_case(sub.short_name().as_bytes()))
    }

    /// Whether the flag, one of [`flag`], is set.
    pub const fn has(&self, flag: u32) -> bool {
        self.flags & flag != 0
    }

    /// Whether a command line of `count` words, the name included, has as many as it must.
    pub fn accepts(&self, count: usize) -> bool {
        let wanted = usize::from(self.arity.unsigned_abs());
        if self.arity < 0 { count >= wanted } else { count == wanted }
    }

    /// The keys of a command line.
    pub fn keys_of<'a>(&self, args: &'a [&'a [u8]]) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let (first, count, step) = match self.keys {
            Some(Keys { first, last, step, .. }) => {
                let last = match usize::try_from(last) {
                    Ok(last) => last,
                    Err(_) => args.len().saturating_sub(last.unsigned_abs() as usize),
                };
                (first, (last + 1).saturating_sub(first), step)
            }
            None => (0, 0, 1),
        };
        args.iter().skip(first).take(count).step_by(step).copied()
    }
}

/// Adds to the categories of a row those that its flags imply.
pub(super) const fn categories(flags: u32, explicit: u32) -> u32 {
    const IMPLIED: [(u32, u32); 6] = [
        (flag::WRITE, category::WRITE),
        (flag::READONLY, category::READ),
        (flag::ADMIN, category::ADMIN | category::DANGEROUS),
        (flag::PUBSUB, category::PUBSUB),
        (flag::FAST, category::FAST),
        (flag::BLOCKING, category::BLOCKING),
    ];
    let mut all = explicit;
    let mut rest: &[(u32, u32)] = &IMPLIED;
    while let [(flag, category), tail @ ..] = rest {
        if flags & *flag != 0 {
            all |= *category;
        }
        rest = tail;
    }
    if flags & flag::FAST == 0 { all | category::SLOW } else { all }
}

/// Named bits, and their names in order.
macro_rules! bits {
    ($($bit:ident $name:literal),* $(,)?) => {
        #[allow(non_camel_case_types, clippy::upper_case_acronyms, reason = "counts the names, never seen outside")]
        enum Position { $($bit),* }
        $(
            #[doc = concat!("`", $name, "`")]
            pub const $bit: u32 = 1 << Position::$bit as u32;
        )*
        /// Each bit with its name.
        pub const NAMES: &[(u32, &str)] = &[$(($bit, $name)),*];

        /// The names of the bits that are set.
        pub fn names(bits: u32) -> impl Iterator<Item = &'static str> {
            NAMES.iter().filter(move |(bit, _)| bits & bit != 0).map(|(_, name)| *name)
        }
    };
}
use bits;

/// A static table of specs, numbered from `from`; see the head of this file for a row.
macro_rules! rows {
    (
        $(#[$doc:meta])* $vis:vis static $table:ident from $start:literal;
        $($name:literal $kind:expr, arity $arity:literal
            $(keys($first:literal, $last:literal, $step:literal, $usage:literal))? $(subcommands($subs:ident))?
            [$($flag:ident)*] [$($category:ident)*] $group:literal $since:literal $summary:literal;)*
    ) => {
        $(#[$doc])*
        $vis static $table: [$crate::intake::commands::table::Spec; [$($name),*].len()] = {
            use $crate::intake::commands::table::{Keys, Spec};
            let mut id = $start;
            [$({
                id += 1;
                let flags = 0 $(| $crate::intake::commands::table::flag::$flag)*;
                #[allow(unused_mut, unused_assignments, reason = "most rows have neither keys nor sub-commands")]
                let mut keys: Option<Keys> = None;
                $(keys = Some(Keys { first: $first, last: $last, step: $step, usage: $usage });)?
                #[allow(unused_mut, unused_assignments, reason = "most rows have neither keys nor sub-commands")]
                let mut subcommands: &'static [Spec] = &[];
                $(subcommands = &$subs;)?
                Spec {
                    id: id - 1,
                    name: $name,
                    kind: $kind,
                    arity: $arity,
                    keys,
                    subcommands,
                    flags,
                    categories: $crate::intake::commands::table::categories(
                        flags,
                        0 $(| $crate::intake::commands::table::category::$category)*,
                    ),
                    group: $group,
                    since: $since,
                    summary: $summary,
                }
            }),*]
        };
    };
}
pub(super) use rows;

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashSet};

    use super::*;

    const GOLDEN: &str = include_str!("command_info.golden");

    /// Commands that the golden redis-server does not have, each with the reason why Tidegate does.
    const NEWER: [(&str, &str); 3] = [
        ("sentinel", "a command of sentinels, which Tidegate plays where it is configured to"),
        ("client|setinfo", "Redis 7.2, which Tidegate says it is: every current library sends it"),
        ("client|no-touch", "Redis 7.2, which Tidegate says it is"),
    ];

    fn line(spec: &Spec) -> String {
        let (first, last, step) = spec.keys.map_or((0, 0, 0), |keys| (keys.first, keys.last, keys.step));
        let name = spec.name.replace('|', " ");
        let flags: Vec<_> = flag::names(spec.flags).collect();
        let mut categories: Vec<_> = category::names(spec.categories).map(|name| format!("@{name}")).collect();
        categories.sort();
        format!("{name}|{}|{}|{first}|{last}|{step}|{}", spec.arity, flags.join(" "), categories.join(" "))
    }

    #[test]
    fn arities_flags_keys_and_categories_are_those_of_a_real_redis() {
        let golden: BTreeMap<&str, String> = GOLDEN
            .lines()
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
            .map(|line| {
                let (head, categories) = line.rsplit_once('|').unwrap();
                let mut categories: Vec<_> = categories.split(' ').collect();
                categories.sort_unstable();
                (line.split('|').next().unwrap(), format!("{head}|{}", categories.join(" ")))
            })
            .collect();
        let ours: BTreeMap<String, String> = all()
            .filter(|spec| NEWER.iter().all(|(name, _)| *name != spec.name))
            .map(|spec| (spec.name.replace('|', " "), line(spec)))
            .collect();
        assert_eq!(ours.len(), golden.len());
        for (name, ours) in &ours {
            assert_eq!(Some(ours), golden.get(name.as_str()), "{name}");
        }
    }

    #[test]
    fn every_spec_has_a_number_of_its_own_below_the_limit() {
        let ids: HashSet<u16> = all().map(|spec| spec.id).collect();
        assert_eq!(ids.len(), all().count());
        assert!(ids.iter().all(|id| usize::from(*id) < ID_LIMIT));
    }

    #[test]
    fn every_command_is_found_in_any_case_and_nothing_else_is() {
        for spec in commands() {
            assert_eq!(lookup(spec.name.as_bytes()).unwrap().id, spec.id);
            assert_eq!(lookup(spec.name.to_uppercase().as_bytes()).unwrap().id, spec.id);
        }
        for unknown in [&b""[..], b"lpus", b"lpushy", b"\xff", b"client|id", b"client id"] {
            assert!(lookup(unknown).is_none());
        }
    }

    #[test]
    fn a_sub_command_is_named_after_its_container() {
        for (spec, sub) in commands().flat_map(|spec| spec.subcommands.iter().map(move |sub| (spec, sub))) {
            assert_eq!(sub.name, format!("{}|{}", spec.name, sub.short_name()));
            assert_eq!(spec.subcommand(sub.short_name().to_uppercase().as_bytes()).unwrap().id, sub.id);
        }
    }

    #[test]
    fn keys_are_found_wherever_they_stand() {
        let keys = |line: &str| -> Vec<String> {
            let args: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
            let spec = lookup(args[0]).unwrap();
            let spec = args.get(1).and_then(|sub| spec.subcommand(sub)).unwrap_or(spec);
            spec.keys_of(&args).map(|key| String::from_utf8_lossy(key).into_owned()).collect()
        };
        assert_eq!(keys("LPUSH a b c"), ["a"]);
        assert_eq!(keys("DEL a b c"), ["a", "b", "c"]);
        assert_eq!(keys("MSET a 1 b 2"), ["a", "b"]);
        assert_eq!(keys("BLPOP a b 0"), ["a", "b"]);
        assert_eq!(keys("OBJECT ENCODING a"), ["a"]);
        assert_eq!(keys("RPOPLPUSH a b"), ["a", "b"]);
        assert!(keys("PING a").is_empty());
        assert!(keys("LPUSH").is_empty());
    }
}
