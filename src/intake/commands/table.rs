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
    /// It follows records live.
    Subscribe,
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
