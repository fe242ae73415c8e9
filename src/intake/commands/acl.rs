//! ACL: who one is, and what users may. Passwords never leave in any form.

use crate::intake::client::{Client, ServerFacts};
use crate::intake::users::User;
use crate::resp::reply::Reply;

use super::parse::integer;
use super::table::{self, category};
use super::{misused, shown, wrong_arity};

pub(super) fn whoami(_: &[&[u8]], client: &mut Client, _: &ServerFacts<'_>) -> Reply {
    client.user.as_ref().map_or(Reply::Nil, |user| Reply::bulk(user.name.as_bytes()))
}

pub(super) fn users(_: &[&[u8]], _: &mut Client, server: &ServerFacts<'_>) -> Reply {
    Reply::Array(server.users.iter().map(|user| Reply::bulk(user.name.as_bytes())).collect())
}

pub(super) fn list(_: &[&[u8]], _: &mut Client, server: &ServerFacts<'_>) -> Reply {
    Reply::Array(server.users.iter().map(|user| Reply::bulk(rule_line(user))).collect())
}

fn rule_line(user: &User) -> String {
    let password = if user.needs_password() { "" } else { " nopass" };
    let (name, keys, commands) = (&user.name, user.key_rules('~'), user.command_rules());
    let reset = if user.all_keys() { "" } else { "resetchannels " };
    format!("user {name} on{password} {keys} {reset}{} {commands}", user.key_rules('&'))
}

pub(super) fn getuser(args: &[&[u8]], _: &mut Client, server: &ServerFacts<'_>) -> Reply {
    let name = std::str::from_utf8(args.get(2).copied().unwrap_or_default()).unwrap_or_default();
    let Some(user) = server.users.get(name) else { return Reply::Nil };
    let mut flags = vec![Reply::text("on")];
    if !user.needs_password() {
        flags.push(Reply::text("nopass"));
    }
    Reply::Map(vec![
        (Reply::text("flags"), Reply::Set(flags)),
        (Reply::text("passwords"), Reply::Array(Vec::new())),
        (Reply::text("commands"), Reply::bulk(user.command_rules())),
        (Reply::text("keys"), Reply::bulk(user.key_rules('~'))),
        (Reply::text("channels"), Reply::bulk(user.key_rules('&'))),
        (Reply::text("selectors"), Reply::Array(Vec::new())),
    ])
}

/// ACL CAT [category].
pub(super) fn cat(args: &[&[u8]], _: &mut Client, _: &ServerFacts<'_>) -> Reply {
    let wanted = match args {
        [_, _] => {
            return Reply::Array(category::NAMES.iter().map(|(_, name)| Reply::text(name)).collect());
        }
        [_, _, wanted] => wanted,
        _ => return misused(args),
    };
    let Some((bit, _)) = category::NAMES.iter().find(|(_, name)| wanted.eq_ignore_ascii_case(name.as_bytes())) else {
        return Reply::error(format!("ERR Unknown category '{}'", shown(wanted, 128)));
    };
    let members = table::all().filter(|spec| spec.categories & bit != 0);
    Reply::Array(members.map(|spec| Reply::text(spec.name)).collect())
}

/// ACL DRYRUN user command [argument …].
pub(super) fn dryrun(args: &[&[u8]], _: &mut Client, server: &ServerFacts<'_>) -> Reply {
    let [_, _, name, line @ ..] = args else { return Reply::NilArray };
    let Some(user) = std::str::from_utf8(name).ok().and_then(|name| server.users.get(name)) else {
        return Reply::error(format!("ERR User '{}' not found", shown(name, 128)));
    };
    let command = line.first().copied().unwrap_or_default();
    let Some(spec) = table::lookup(command) else {
        return Reply::error(format!("ERR Command '{}' not found", shown(command, 128)));
    };
    let spec = line.get(1).and_then(|sub| spec.subcommand(sub)).unwrap_or(spec);
    if !spec.accepts(line.len()) {
        return wrong_arity(spec);
    }
    match super::permitted(spec, line, user) {
        Ok(()) => Reply::OK,
        Err(denied) => Reply::bulk(denied.dry_run_text(spec)),
    }
}

/// ACL LOG [count | RESET].
pub(super) fn log(args: &[&[u8]], _: &mut Client, _: &ServerFacts<'_>) -> Reply {
    match args {
        [_, _] => Reply::Array(Vec::new()),
        [_, _, word] if word.eq_ignore_ascii_case(b"reset") => Reply::OK,
        [_, _, count] => integer(count).map_or_else(|error| error, |_| Reply::Array(Vec::new())),
        _ => misused(args),
    }
}
