//! HELLO, AUTH, SELECT, PING, ECHO.

use crate::intake::client::{Client, DATABASES, REDIS_VERSION, ServerFacts};
use crate::intake::users::DEFAULT_USER;
use crate::resp::encode::Protocol;
use crate::resp::reply::Reply;

use super::client::checked_name;
use super::parse::{integer, number, syntax_error};
use super::{shown, table, wrong_arity};

/// HELLO [2|3 [AUTH user password] [SETNAME name]]: nothing changes unless all of it is right.
pub(super) fn hello(args: &[&[u8]], client: &mut Client, server: &ServerFacts<'_>) -> Reply {
    match try_hello(args, client, server) {
        Ok(reply) | Err(reply) => reply,
    }
}

fn try_hello(args: &[&[u8]], client: &mut Client, server: &ServerFacts<'_>) -> Result<Reply, Reply> {
    let mut protocol = client.protocol;
    if let Some(version) = args.get(1) {
        protocol = match number(version) {
            None => return Err(Reply::error("ERR Protocol version is not an integer or out of range")),
            Some(2) => Protocol::Resp2,
            Some(3) => Protocol::Resp3,
            Some(_) => return Err(Reply::error("NOPROTO unsupported protocol version")),
        };
    }
    let mut credentials = None;
    let mut name = None;
    let mut options = args.get(2..).unwrap_or_default();
    while let [option, rest @ ..] = options {
        options = match rest {
            [user, password, rest @ ..] if option.eq_ignore_ascii_case(b"AUTH") => {
                credentials = Some((*user, *password));
                rest
            }
            [given, rest @ ..] if option.eq_ignore_ascii_case(b"SETNAME") => {
                name = Some(checked_name(given)?);
                rest
            }
            _ => return Err(Reply::error(format!("ERR Syntax error in HELLO option '{}'", shown(option, 128)))),
        };
    }
    if let Some((user, password)) = credentials {
        login(user, password, client, server)?;
    }
    if client.user.is_none() {
        return Err(Reply::error(
            "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO AUTH <user> <pass> \
             option can be used to authenticate the client and select the RESP protocol version at the same time",
        ));
    }
    if let Some(name) = name {
        client.name = name;
    }
    client.protocol = protocol;
    Ok(Reply::Map(vec![
        (Reply::text("server"), Reply::text("redis")),
        (Reply::text("version"), Reply::text(REDIS_VERSION)),
        (Reply::text("proto"), Reply::Integer(protocol.number())),
        (Reply::text("id"), Reply::Integer(client.id.cast_signed())),
        (Reply::text("mode"), Reply::text(server.mode())),
        (Reply::text("role"), Reply::text("master")),
        (Reply::text("modules"), Reply::Array(Vec::new())),
    ]))
}

/// AUTH [user] password.
pub(super) fn auth(args: &[&[u8]], client: &mut Client, server: &ServerFacts<'_>) -> Reply {
    let (user, password) = match args {
        [_, password] => {
            if server.users.get(DEFAULT_USER).is_some_and(|user| !user.needs_password()) {
                return Reply::error(
                    "ERR AUTH <password> called without any password configured for the default user. Are you sure \
                     your configuration is correct?",
                );
            }
            (DEFAULT_USER.as_bytes(), *password)
        }
        [_, user, password] => (*user, *password),
        _ => return syntax_error(),
    };
    login(user, password, client, server).map_or_else(|error| error, |()| Reply::OK)
}

fn login(user: &[u8], password: &[u8], client: &mut Client, server: &ServerFacts<'_>) -> Result<(), Reply> {
    match server.users.authenticate(user, password) {
        Some(user) => {
            client.user = Some(user);
            Ok(())
        }
        None => {
            client.failed_logins += 1;
            Err(Reply::error("WRONGPASS invalid username-password pair or user is disabled."))
        }
    }
}

/// SELECT number.
pub(super) fn select(args: &[&[u8]], client: &mut Client, _: &ServerFacts<'_>) -> Reply {
    let number = match integer(args.get(1).copied().unwrap_or_default()) {
        Ok(number) => number,
        Err(error) => return error,
    };
    if i32::try_from(number).is_err() {
        return Reply::error("ERR value is out of range, value must between -2147483648 and 2147483647");
    }
    match u32::try_from(number) {
        Ok(number) if number < DATABASES => {
            client.database = number;
            Reply::OK
        }
        _ => Reply::error("ERR DB index is out of range"),
    }
}

/// PING [message].
pub(super) fn ping(args: &[&[u8]], _: &mut Client, _: &ServerFacts<'_>) -> Reply {
    match args {
        [_] => Reply::simple("PONG"),
        [_, message] => Reply::bulk(*message),
        _ => table::lookup(b"ping").map_or_else(syntax_error, wrong_arity),
    }
}

/// ECHO message.
pub(super) fn echo(args: &[&[u8]], _: &mut Client, _: &ServerFacts<'_>) -> Reply {
    Reply::bulk(args.get(1).copied().unwrap_or_default())
}
