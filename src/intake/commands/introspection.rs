//! COMMAND and the HELP of every container, told from the table.

use crate::intake::client::{Client, ServerFacts};
use crate::resp::reply::Reply;

use super::parse::syntax_error;
use super::table::{self, Keys, Spec, category, flag};
use super::{glob, shown};

/// COMMAND without a sub-command.
pub(super) fn command(_: &[&[u8]], _: &mut Client, _: &ServerFacts<'_>) -> Reply {
    Reply::Array(table::commands().map(described).collect())
}

pub(super) fn count(_: &[&[u8]], _: &mut Client, _: &ServerFacts<'_>) -> Reply {
    Reply::count(table::commands().count())
}

/// COMMAND INFO [name …]: a nil for each name that is none.
pub(super) fn info(args: &[&[u8]], client: &mut Client, server: &ServerFacts<'_>) -> Reply {
    match args.get(2..) {
        None | Some([]) => command(args, client, server),
        Some(names) => Reply::Array(names.iter().map(|name| find(name).map_or(Reply::Nil, described)).collect()),
    }
}

/// COMMAND DOCS [name …]: nothing for a name that is none.
pub(super) fn docs(args: &[&[u8]], _: &mut Client, _: &ServerFacts<'_>) -> Reply {
    match args.get(2..) {
        None | Some([]) => Reply::Map(table::commands().map(documented).collect()),
        Some(names) => Reply::Map(names.iter().filter_map(|name| find(name)).map(documented).collect()),
    }
}

/// COMMAND LIST [FILTERBY MODULE name | ACLCAT category | PATTERN pattern].
pub(super) fn list(args: &[&[u8]], _: &mut Client, _: &ServerFacts<'_>) -> Reply {
    let name = |spec: &Spec| Reply::text(spec.name);
    let (filter, value) = match args.get(2..) {
        None | Some([]) => return Reply::Array(table::commands().map(name).collect()),
        Some([word, filter, value]) if word.eq_ignore_ascii_case(b"filterby") => (filter, value),
        Some(_) => return syntax_error(),
    };
    match filter.to_ascii_lowercase().as_slice() {
        b"module" => Reply::Array(Vec::new()),
        b"aclcat" => {
            let value = value.to_ascii_lowercase();
            let bits = category::NAMES.iter().find(|(_, name)| name.as_bytes() == value).map_or(0, |(bit, _)| *bit);
            Reply::Array(table::all().filter(|spec| spec.categories & bits != 0).map(name).collect())
        }
        b"pattern" => {
            let value = value.to_ascii_lowercase();
            Reply::Array(table::all().filter(|spec| glob::matches(&value, spec.name.as_bytes())).map(name).collect())
        }
        _ => syntax_error(),
    }
}

/// COMMAND GETKEYS command line.
pub(super) fn getkeys(args: &[&[u8]], _: &mut Client, _: &ServerFacts<'_>) -> Reply {
    keys_of_line(args).map_or_else(|error| error, |(_, keys)| Reply::Array(keys))
}

/// COMMAND GETKEYSANDFLAGS command line.
pub(super) fn getkeysandflags(args: &[&[u8]], _: &mut Client, _: &ServerFacts<'_>) -> Reply {
    let (usage, keys) = match keys_of_line(args) {
        Ok(found) => found,
        Err(error) => return error,
    };
    Reply::Array(keys.into_iter().map(|key| Reply::Array(vec![key, words(usage)])).collect())
}

fn keys_of_line(args: &[&[u8]]) -> Result<(&'static str, Vec<Reply>), Reply> {
    let line = args.get(2..).unwrap_or_default();
    let name = line.first().copied().unwrap_or_default();
    let mut spec = table::lookup(name).ok_or_else(|| Reply::error("ERR Invalid command specified"))?;
    if let Some(sub) = line.get(1) {
        spec = spec.subcommand(sub).unwrap_or(spec);
    }
    let none = Reply::error("ERR The command has no key arguments");
    let usage = spec.keys.ok_or(none)?.usage;
    if !spec.accepts(line.len()) {
        return Err(Reply::error("ERR Invalid number of arguments specified for command"));
    }
    Ok((usage, spec.keys_of(line).map(Reply::bulk).collect()))
}

/// HELP of whatever container was asked.
pub(super) fn help(args: &[&[u8]], _: &mut Client, _: &ServerFacts<'_>) -> Reply {
    let name = args.first().copied().unwrap_or_default();
    let mut lines = Vec::new();
    let container = shown(name, 128).to_ascii_uppercase();
    lines.push(format!("{container} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:"));
    for sub in table::lookup(name).map_or(&[][..], |spec| spec.subcommands) {
        lines.push(sub.short_name().to_ascii_uppercase());
        lines.push(format!("    {}.", sub.summary));
    }
    Reply::Array(lines.into_iter().map(Reply::simple).collect())
}

/// A command, or `container|sub-command`.
fn find(name: &[u8]) -> Option<&'static Spec> {
    let mut parts = name.splitn(2, |byte| *byte == b'|');
    let spec = table::lookup(parts.next()?)?;
    match parts.next() {
        None => Some(spec),
        Some(sub) => spec.subcommand(sub),
    }
}

/// An entry of COMMAND INFO.
fn described(spec: &'static Spec) -> Reply {
    let (first, last, step) =
        spec.keys.map_or((0, 0, 0), |keys| (keys.first as i64, i64::from(keys.last), keys.step as i64));
    let categories = category::names(spec.categories).map(|name| Reply::simple(format!("@{name}")));
    Reply::Array(vec![
        Reply::text(spec.name),
        Reply::Integer(i64::from(spec.arity)),
        Reply::Set(flag::names(spec.flags).map(Reply::simple).collect()),
        Reply::Integer(first),
        Reply::Integer(last),
        Reply::Integer(step),
        Reply::Set(categories.collect()),
        Reply::Set(Vec::new()),
        Reply::Set(spec.keys.map(key_spec).into_iter().collect()),
        Reply::Set(spec.subcommands.iter().map(described).collect()),
    ])
}

/// A key specification; its last key counts from the first one, unless it counts from the end.
fn key_spec(keys: Keys) -> Reply {
    let first = keys.first as i64;
    let last = if keys.last < 0 { i64::from(keys.last) } else { i64::from(keys.last) - first };
    let part = |kind, spec| Reply::Map(vec![(Reply::text("type"), Reply::text(kind)), (Reply::text("spec"), spec)]);
    let index = Reply::Map(vec![(Reply::text("index"), Reply::Integer(first))]);
    let range = Reply::Map(vec![
        (Reply::text("lastkey"), Reply::Integer(last)),
        (Reply::text("keystep"), Reply::Integer(keys.step as i64)),
        (Reply::text("limit"), Reply::Integer(0)),
    ]);
    Reply::Map(vec![
        (Reply::text("flags"), words(keys.usage)),
        (Reply::text("begin_search"), part("index", index)),
        (Reply::text("find_keys"), part("range", range)),
    ])
}

fn words(text: &'static str) -> Reply {
    Reply::Set(text.split(' ').map(Reply::simple).collect())
}

/// An entry of COMMAND DOCS.
fn documented(spec: &'static Spec) -> (Reply, Reply) {
    let mut fields = vec![
        (Reply::text("summary"), Reply::text(spec.summary)),
        (Reply::text("since"), Reply::text(spec.since)),
        (Reply::text("group"), Reply::text(spec.group)),
    ];
    if !spec.subcommands.is_empty() {
        let subcommands = spec.subcommands.iter().map(documented).collect();
        fields.push((Reply::text("subcommands"), Reply::Map(subcommands)));
    }
    (Reply::text(spec.name), Reply::Map(fields))
}
