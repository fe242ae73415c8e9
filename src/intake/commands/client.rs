//! CLIENT and its sub-commands.

use crate::intake::client::{Client, ClientLine, ReplyMode, ServerFacts, Tracking};
use crate::resp::reply::Reply;

use super::parse::{integer, number, syntax_error};
use super::{misused, shown};

/// A name for a connection, or Redis's words why it is none. An empty one takes the name away.
pub(super) fn checked_name(name: &[u8]) -> Result<String, Reply> {
    printable(name)
        .ok_or_else(|| Reply::error("ERR Client names cannot contain spaces, newlines or special characters."))
}

/// What CLIENT LIST can show as one word.
fn printable(text: &[u8]) -> Option<String> {
    text.iter().all(u8::is_ascii_graphic).then(|| text.iter().copied().map(char::from).collect())
}

pub(super) fn setname(args: &[&[u8]], client: &mut Client, _: &ServerFacts<'_>) -> Reply {
    match checked_name(args.get(2).copied().unwrap_or_default()) {
        Ok(name) => {
            client.name = name;
            Reply::OK
        }
        Err(error) => error,
    }
}

pub(super) fn getname(_: &[&[u8]], client: &mut Client, _: &ServerFacts<'_>) -> Reply {
    if client.name.is_empty() { Reply::Nil } else { Reply::bulk(client.name.as_bytes()) }
}

pub(super) fn setinfo(args: &[&[u8]], client: &mut Client, _: &ServerFacts<'_>) -> Reply {
    let [_, _, option, value, ..] = args else { return syntax_error() };
    let field = if option.eq_ignore_ascii_case(b"lib-name") {
        &mut client.library
    } else if option.eq_ignore_ascii_case(b"lib-ver") {
        &mut client.library_version
    } else {
        return Reply::error(format!("ERR Unrecognized option '{}'", shown(option, 128)));
    };
    match printable(value) {
        Some(value) => {
            *field = value;
            Reply::OK
        }
        None => {
            let option = shown(option, 128);
            Reply::error(format!("ERR {option} cannot contain spaces, newlines or special characters."))
        }
    }
}

pub(super) fn id(_: &[&[u8]], client: &mut Client, _: &ServerFacts<'_>) -> Reply {
    Reply::Integer(client.id.cast_signed())
}

pub(super) fn info(_: &[&[u8]], client: &mut Client, server: &ServerFacts<'_>) -> Reply {
    Reply::Verbatim(client.line(server.now_ms()) + "\n")
}

/// CLIENT LIST [TYPE normal|master|replica|pubsub | ID id …].
pub(super) fn list(args: &[&[u8]], client: &mut Client, server: &ServerFacts<'_>) -> Reply {
    let mut wanted = None;
    match args.get(2..).unwrap_or_default() {
        [] => {}
        [option, kind] if option.eq_ignore_ascii_case(b"TYPE") => match kind.to_ascii_lowercase().as_slice() {
            b"normal" => {}
            b"pubsub" => wanted = Some(followers(client, server)),
            b"master" | b"replica" | b"slave" => wanted = Some(Vec::new()),
            _ => return Reply::error(format!("ERR Unknown client type '{}'", shown(kind, 128))),
        },
        [option, ids @ ..] if option.eq_ignore_ascii_case(b"ID") && !ids.is_empty() => {
            // A negative number is one that no connection has.
            let ids: Option<Vec<u64>> = ids.iter().map(|id| number(id).map(|id| id.try_into().unwrap_or(0))).collect();
            match ids {
                Some(ids) => wanted = Some(ids),
                None => return Reply::error("ERR Invalid client ID"),
            }
        }
        _ => return syntax_error(),
    }
    let mut lines = server.clients.lines();
    lines.retain(|line| line.id != client.id);
    lines.push(ClientLine { id: client.id, line: client.line(server.now_ms()) });
    if let Some(wanted) = wanted {
        lines.retain(|line| wanted.contains(&line.id));
    }
    lines.sort_by_key(|line| line.id);
    Reply::Verbatim(lines.into_iter().map(|line| line.line + "\n").collect())
}

/// The connections that follow something.
fn followers(client: &Client, server: &ServerFacts<'_>) -> Vec<u64> {
    let mut lines = server.clients.lines();
    lines.retain(|line| line.line.contains(" flags=P") || line.line.contains(" flags=OP"));
    let own = client.follows.iter().any(|names| *names > 0).then_some(client.id);
    lines.iter().map(|line| line.id).filter(|id| *id != client.id).chain(own).collect()
}

/// CLIENT REPLY on|off|skip. The reply to `off` and `skip` is made and, as all others then, not sent.
pub(super) fn reply(args: &[&[u8]], client: &mut Client, _: &ServerFacts<'_>) -> Reply {
    let mode = args.get(2).copied().unwrap_or_default().to_ascii_lowercase();
    client.reply_mode = match mode.as_slice() {
        b"on" => ReplyMode::On,
        b"off" => ReplyMode::Off,
        b"skip" if client.reply_mode == ReplyMode::Off => ReplyMode::Off,
        b"skip" => ReplyMode::SkipTwo,
        _ => return syntax_error(),
    };
    Reply::OK
}

/// CLIENT NO-EVICT and NO-TOUCH, on|off.
pub(super) fn on_off(args: &[&[u8]], _: &mut Client, _: &ServerFacts<'_>) -> Reply {
    match args.get(2) {
        Some(word) if word.eq_ignore_ascii_case(b"on") || word.eq_ignore_ascii_case(b"off") => Reply::OK,
        _ => syntax_error(),
    }
}

pub(super) fn unblock(args: &[&[u8]], _: &mut Client, _: &ServerFacts<'_>) -> Reply {
    match args {
        [_, _, id] if number(id).is_some() => Reply::Integer(0),
        [_, _, id, how] if number(id).is_some() => {
            if how.eq_ignore_ascii_case(b"timeout") || how.eq_ignore_ascii_case(b"error") {
                Reply::Integer(0)
            } else {
                Reply::error("ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR")
            }
        }
        [_, _, _] | [_, _, _, _] => Reply::error("ERR value is not an integer or out of range"),
        _ => misused(args),
    }
}

/// CLIENT TRACKING on|off with its options, checked as in Redis.
pub(super) fn tracking(args: &[&[u8]], client: &mut Client, server: &ServerFacts<'_>) -> Reply {
    try_tracking(args, client, server).map_or_else(|error| error, |()| Reply::OK)
}

fn try_tracking(args: &[&[u8]], client: &mut Client, server: &ServerFacts<'_>) -> Result<(), Reply> {
    let mut asked = Tracking::default();
    let mut options = args.get(3..).unwrap_or_default();
    while let [option, rest @ ..] = options {
        options = rest;
        match (option.to_ascii_lowercase().as_slice(), rest) {
            (b"bcast", _) => asked.broadcast = true,
            (b"optin", _) => asked.opt_in = true,
            (b"optout", _) => asked.opt_out = true,
            (b"noloop", _) => asked.no_loop = true,
            (b"redirect", [target, rest @ ..]) => {
                options = rest;
                let target = integer(target)?;
                let known = target == client.id.cast_signed()
                    || server.clients.lines().iter().any(|line| line.id.cast_signed() == target);
                if !known {
                    return Err(Reply::error("ERR The client ID you want redirect to does not exist"));
                }
                asked.redirect = Some(target);
            }
            (b"prefix", [prefix, rest @ ..]) => {
                options = rest;
                asked.prefixes.push(prefix.to_vec());
            }
            _ => return Err(syntax_error()),
        }
    }
    let word = args.get(2).copied().unwrap_or_default();
    if word.eq_ignore_ascii_case(b"off") {
        client.tracking = None;
        return Ok(());
    }
    if !word.eq_ignore_ascii_case(b"on") {
        return Err(syntax_error());
    }
    if !asked.broadcast && !asked.prefixes.is_empty() {
        return Err(Reply::error("ERR PREFIX option requires BCAST mode to be enabled"));
    }
    if let Some(now) = &client.tracking {
        if now.broadcast != asked.broadcast {
            return Err(Reply::error(
                "ERR You can't switch BCAST mode on/off before disabling tracking for this client, and then \
                 re-enabling it with a different mode.",
            ));
        }
        if (now.opt_in && asked.opt_out) || (now.opt_out && asked.opt_in) {
            return Err(Reply::error(
                "ERR You can't switch OPTIN/OPTOUT mode before disabling tracking for this client, and then \
                 re-enabling it with a different mode.",
            ));
        }
    }
    if asked.broadcast && (asked.opt_in || asked.opt_out) {
        return Err(Reply::error("ERR OPTIN and OPTOUT are not compatible with BCAST"));
    }
    if asked.opt_in && asked.opt_out {
        return Err(Reply::error("ERR You can't specify both OPTIN mode and OPTOUT mode"));
    }
    client.tracking = Some(asked);
    Ok(())
}

pub(super) fn caching(args: &[&[u8]], client: &mut Client, _: &ServerFacts<'_>) -> Reply {
    let Some((opt_in, opt_out)) = client.tracking.as_ref().map(|now| (now.opt_in, now.opt_out)) else {
        return Reply::error(
            "ERR CLIENT CACHING can be called only when the client is in tracking mode with OPTIN or OPTOUT mode enabled",
        );
    };
    let word = args.get(2).copied().unwrap_or_default();
    if word.eq_ignore_ascii_case(b"yes") {
        if opt_in {
            return Reply::OK;
        }
        return Reply::error("ERR CLIENT CACHING YES is only valid when tracking is enabled in OPTIN mode.");
    }
    if word.eq_ignore_ascii_case(b"no") {
        if opt_out {
            return Reply::OK;
        }
        return Reply::error("ERR CLIENT CACHING NO is only valid when tracking is enabled in OPTOUT mode.");
    }
    syntax_error()
}

pub(super) fn getredir(_: &[&[u8]], client: &mut Client, _: &ServerFacts<'_>) -> Reply {
    Reply::Integer(client.redirect())
}

pub(super) fn trackinginfo(_: &[&[u8]], client: &mut Client, _: &ServerFacts<'_>) -> Reply {
    let mut flags = vec![Reply::text(if client.tracking.is_some() { "on" } else { "off" })];
    let mut prefixes = Vec::new();
    if let Some(now) = &client.tracking {
        let modes = [(now.broadcast, "bcast"), (now.opt_in, "optin"), (now.opt_out, "optout"), (now.no_loop, "noloop")];
        flags.extend(modes.into_iter().filter(|(set, _)| *set).map(|(_, name)| Reply::text(name)));
        prefixes.extend(now.prefixes.iter().map(|prefix| Reply::bulk(prefix.as_slice())));
    }
    Reply::Map(vec![
        (Reply::text("flags"), Reply::Set(flags)),
        (Reply::text("redirect"), Reply::Integer(client.redirect())),
        (Reply::text("prefixes"), Reply::Array(prefixes)),
    ])
}
