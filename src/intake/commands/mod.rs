//! Commands: which there are ([`table`]), whether one may run ([`check`]), and what is answered ([`answer`]).
//!
//! Everything here is pure: no I/O, no clock. What changes is in [`Client`], what is asked about the server comes in as
//! [`ServerFacts`]. Wording is Redis's own, because clients take decisions by it.
//!
//! The order of a command's way is Redis's: [`table::lookup`] or [`unknown`], then [`check`] (sub-command, arity,
//! authentication, permission), then MULTI's queue, then [`answer`] or, for what carries records, the session.

use std::borrow::Cow;

use crate::resp::reply::Reply;

use super::client::{Client, ServerFacts};
use super::live;
use super::users::User;
use table::{Kind, Refusal, Spec, flag};

mod acl;
mod client;
mod cluster;
mod config;
mod connection;
pub mod glob;
mod introspection;
mod keyspace;
mod operations;
mod parse;
pub mod scripts;
mod sentinel;
mod server;
mod specs;
pub mod store;
pub mod table;
pub mod xadd;

/// Answers one command; `args` starts with the command's name.
pub type Answer = fn(args: &[&[u8]], client: &mut Client, server: &ServerFacts<'_>) -> Reply;

/// How much of an unknown command's name, and of all its arguments together, an error repeats.
const ECHO_LIMIT: usize = 128;

/// Answers a command that passed [`check`], given the spec that it gave. Commands that carry records or make up a
/// transaction are the session's; asked for them, this says so.
pub fn answer(spec: &'static Spec, args: &[&[u8]], client: &mut Client, server: &ServerFacts<'_>) -> Reply {
    match spec.kind {
        Kind::Answered(answer) => answer(args, client, server),
        Kind::Refused(refusal) => refused(spec, refusal),
        Kind::Watch | Kind::Unwatch => Reply::OK,
        Kind::Sentinel => sentinel::sentinel(args, client, server),
        Kind::Quit => {
            client.close_after_reply = true;
            Reply::OK
        }
        Kind::Reset => {
            client.reset(server.users);
            Reply::simple("RESET")
        }
        Kind::Push
        | Kind::Publish
        | Kind::XAdd
        | Kind::Set
        | Kind::HSet
        | Kind::ZAdd
        | Kind::Subscribe(_)
        | Kind::Unsubscribe(_)
        | Kind::Monitor
        | Kind::Multi
        | Kind::Exec
        | Kind::Discard
        | Kind::Container => Reply::error(format!("ERR '{}' cannot be answered here", spec.name)),
    }
}

/// Whether the command may run: its sub-command exists, it has as many arguments as it must, the client is known and
/// may run it on these keys. Gives the sub-command's spec, or the command's own.
///
/// An EXEC that may not run says so as EXECABORT, and the session is to forget its transaction.
pub fn check(spec: &'static Spec, args: &[&[u8]], client: &Client) -> Result<&'static Spec, Reply> {
    match (checked(spec, args, client), spec.kind) {
        (Err(Reply::Error(text)), Kind::Exec) => {
            let why = text.strip_prefix("ERR ").unwrap_or(&text);
            Err(Reply::error(format!("EXECABORT Transaction discarded because of: {why}")))
        }
        (result, _) => result,
    }
}

fn checked(spec: &'static Spec, args: &[&[u8]], client: &Client) -> Result<&'static Spec, Reply> {
    let spec = match args.get(1) {
        Some(name) if !spec.subcommands.is_empty() => {
            spec.subcommand(name).ok_or_else(|| unknown_subcommand(spec, name))?
        }
        _ => spec,
    };
    if !spec.accepts(args.len()) || matches!(spec.kind, Kind::Container) {
        return Err(wrong_arity(spec));
    }
    if spec.has(flag::NO_AUTH) {
        return Ok(spec);
    }
    let Some(user) = &client.user else {
        return Err(Reply::error("NOAUTH Authentication required."));
    };
    permitted(spec, args, user).map_err(|denied| denied.reply(spec))?;
    Ok(spec)
}

/// The error for a name that [`table::lookup`] does not know. It stays in Redis's words to the last quote: libraries
/// recognise an old server by it.
pub fn unknown(args: &[&[u8]]) -> Reply {
    let name = args.first().copied().unwrap_or_default();
    let mut text = format!("ERR unknown command '{}', with args beginning with: ", shown(name, ECHO_LIMIT));
    let mut echoed = 0;
    for arg in args.iter().skip(1) {
        if echoed >= ECHO_LIMIT {
            break;
        }
        let arg = shown(arg, ECHO_LIMIT - echoed);
        echoed += arg.len() + "'' ".len();
        text.push('\'');
        text.push_str(&arg);
        text.push_str("' ");
    }
    Reply::error(text)
}

/// The error for a wrong number of arguments, in Redis's words.
pub fn wrong_arity(spec: &Spec) -> Reply {
    Reply::error(format!("ERR wrong number of arguments for '{}' command", spec.name))
}

fn unknown_subcommand(spec: &Spec, name: &[u8]) -> Reply {
    let container = spec.name.to_ascii_uppercase();
    Reply::error(format!("ERR unknown subcommand '{}'. Try {container} HELP.", shown(name, ECHO_LIMIT)))
}

/// The error of a sub-command that knows only while it runs that it has too many arguments.
fn misused(args: &[&[u8]]) -> Reply {
    let word = |place| shown(args.get(place).copied().unwrap_or_default(), ECHO_LIMIT);
    let (container, sub) = (word(0).to_ascii_uppercase(), word(1));
    Reply::error(format!("ERR unknown subcommand or wrong number of arguments for '{sub}'. Try {container} HELP."))
}

/// Why a user may not run a command line.
enum Denied<'a> {
    Command,
    Key(&'a [u8]),
    Channel(&'a [u8]),
}

/// Whether the user may run the command, and on these keys or this channel.
fn permitted<'a>(spec: &Spec, args: &'a [&'a [u8]], user: &User) -> Result<(), Denied<'a>> {
    if !user.may_run(spec) && !spec.has(flag::NO_AUTH) {
        return Err(Denied::Command);
    }
    if user.all_keys() {
        return Ok(());
    }
    match spec.kind {
        Kind::Publish => {
            let denied = args.get(1).filter(|channel| !user.may_write_key(channel));
            return denied.map_or(Ok(()), |channel| Err(Denied::Channel(channel)));
        }
        Kind::Subscribe(kind) => {
            let mut channels = args.iter().skip(1);
            let denied = channels.find(|channel| !user.may_follow(channel, kind == live::Kind::Pattern));
            return denied.map_or(Ok(()), |channel| Err(Denied::Channel(channel)));
        }
        Kind::Unsubscribe(_) => return Ok(()),
        // All keys pass by there.
        Kind::Monitor => return Err(Denied::Command),
        _ => {}
    }
    spec.keys_of(args).find(|key| !user.may_write_key(key)).map_or(Ok(()), |key| Err(Denied::Key(key)))
}

// === impl Denied ===

impl Denied<'_> {
    fn reply(&self, spec: &Spec) -> Reply {
        const WHO: &str = "NOPERM this user has no permissions to";
        match self {
            Denied::Command => Reply::error(format!("{WHO} run the '{}' command", spec.name)),
            Denied::Key(_) => Reply::error(format!("{WHO} access one of the keys used as arguments")),
            Denied::Channel(_) => Reply::error(format!("{WHO} access one of the channels used as arguments")),
        }
    }

    /// What ACL DRYRUN says.
    fn dry_run_text(&self, spec: &Spec) -> String {
        const WHO: &str = "This user has no permissions to";
        match self {
            Denied::Command => format!("{WHO} run the '{}' command", spec.name),
            Denied::Key(key) => format!("{WHO} access the '{}' key", shown(key, ECHO_LIMIT)),
            Denied::Channel(channel) => format!("{WHO} access the '{}' channel", shown(channel, ECHO_LIMIT)),
        }
    }
}

/// A known command that is not served says so plainly and keeps the connection.
fn refused(spec: &Spec, refusal: Refusal) -> Reply {
    let why = match refusal {
        Refusal::Read => {
            "Tidegate takes records in and hands them to Kafka; read them there, or follow them with SUBSCRIBE"
        }
        Refusal::Store => "Tidegate keeps no values; send records with LPUSH, RPUSH, PUBLISH or XADD",
        Refusal::Script => "Tidegate runs no scripts; send records with LPUSH, RPUSH, PUBLISH or XADD",
        Refusal::Administration => "Tidegate holds no data set and no replicas; its state is in Kafka",
        Refusal::Configuration => {
            "settings and users are in Tidegate's configuration file; change them there and reload"
        }
    };
    Reply::error(format!("ERR '{}' is not served: {why}", spec.name))
}

/// Bytes from a client inside an error: cut to `limit`, and at a NUL as Redis's C strings are. What is not UTF-8 is
/// replaced, where Redis would send it as it is: the error is text.
fn shown(bytes: &[u8], limit: usize) -> Cow<'_, str> {
    let bytes = bytes.get(..limit).unwrap_or(bytes);
    let bytes = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(bytes)
}

#[cfg(test)]
mod tests;
