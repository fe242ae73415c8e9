//! Commands about the connection itself.

use super::super::table::{Kind::*, Refusal::*, rows};
use super::super::{client, connection, introspection};

rows! {
    /// Greeting, identity, liveness.
    pub(super) static CONNECTION from 32;
    "hello" Answered(connection::hello), arity -1 [NOSCRIPT LOADING STALE FAST NO_AUTH ALLOW_BUSY] [CONNECTION]
        "connection" "6.0.0" "Agrees on the protocol version, with identity and name in one go";
    "auth" Answered(connection::auth), arity -2 [NOSCRIPT LOADING STALE FAST NO_AUTH ALLOW_BUSY] [CONNECTION]
        "connection" "1.0.0" "Proves who the client is";
    "select" Answered(connection::select), arity 2 [LOADING STALE FAST] [CONNECTION]
        "connection" "1.0.0" "Chooses the database number, which a route may use";
    "ping" Answered(connection::ping), arity -1 [FAST] [CONNECTION]
        "connection" "1.0.0" "Answers PONG or the given message";
    "echo" Answered(connection::echo), arity 2 [LOADING STALE FAST] [CONNECTION]
        "connection" "1.0.0" "Answers the given message";
    "quit" Quit, arity -1 [NOSCRIPT LOADING STALE FAST NO_AUTH ALLOW_BUSY] [CONNECTION]
        "connection" "1.0.0" "Closes the connection once all replies are out";
    "reset" Reset, arity 1 [NOSCRIPT LOADING STALE FAST NO_AUTH ALLOW_BUSY] [CONNECTION]
        "connection" "6.2.0" "Makes the connection as new";
    "client" Container, arity -2 subcommands(CLIENT) [] []
        "connection" "2.4.0" "Commands about connections";
}

rows! {
    /// CLIENT and its sub-commands.
    pub(super) static CLIENT from 48;
    "client|caching" Answered(client::caching), arity 3 [NOSCRIPT LOADING STALE] [CONNECTION]
        "connection" "6.0.0" "Accepted: there is nothing to cache";
    "client|getname" Answered(client::getname), arity 2 [NOSCRIPT LOADING STALE] [CONNECTION]
        "connection" "2.6.9" "Answers the name of the connection";
    "client|getredir" Answered(client::getredir), arity 2 [NOSCRIPT LOADING STALE] [CONNECTION]
        "connection" "6.0.0" "Answers where invalidations go";
    "client|help" Answered(introspection::help), arity 2 [LOADING STALE] [CONNECTION]
        "connection" "5.0.0" "Lists the sub-commands";
    "client|id" Answered(client::id), arity 2 [NOSCRIPT LOADING STALE] [CONNECTION]
        "connection" "5.0.0" "Answers the number of the connection";
    "client|info" Answered(client::info), arity 2 [NOSCRIPT LOADING STALE] [CONNECTION]
        "connection" "6.2.0" "Describes this connection";
    "client|kill" Refused(Administration), arity -3 [ADMIN NOSCRIPT LOADING STALE] [CONNECTION]
        "connection" "2.4.0" "Not served: connections end on the side of their owner";
    "client|list" Answered(client::list), arity -2 [ADMIN NOSCRIPT LOADING STALE] [CONNECTION]
        "connection" "2.4.0" "Describes the connections";
    "client|no-evict" Answered(client::on_off), arity 3 [ADMIN NOSCRIPT LOADING STALE] [CONNECTION]
        "connection" "7.0.0" "Accepted: nothing is evicted";
    "client|no-touch" Answered(client::on_off), arity 3 [NOSCRIPT LOADING STALE] [CONNECTION]
        "connection" "7.2.0" "Accepted: no key has an age";
    "client|pause" Refused(Administration), arity -3 [ADMIN NOSCRIPT LOADING STALE] [CONNECTION]
        "connection" "2.9.50" "Not served: intake is never paused";
    "client|reply" Answered(client::reply), arity 3 [NOSCRIPT LOADING STALE] [CONNECTION]
        "connection" "3.2.0" "Switches replies on or off, or skips one";
    "client|setinfo" Answered(client::setinfo), arity 4 [NOSCRIPT LOADING STALE] [CONNECTION]
        "connection" "7.2.0" "Tells the name and version of the client library";
    "client|setname" Answered(client::setname), arity 3 [NOSCRIPT LOADING STALE] [CONNECTION]
        "connection" "2.6.9" "Names the connection";
    "client|tracking" Answered(client::tracking), arity -3 [NOSCRIPT LOADING STALE] [CONNECTION]
        "connection" "6.0.0" "Accepted: no key ever changes, so nothing is invalidated";
    "client|trackinginfo" Answered(client::trackinginfo), arity 2 [NOSCRIPT LOADING STALE] [CONNECTION]
        "connection" "6.2.0" "Describes the tracking that was asked for";
    "client|unblock" Answered(client::unblock), arity -3 [ADMIN NOSCRIPT LOADING STALE] [CONNECTION]
        "connection" "5.0.0" "Answers 0: no client is ever blocked";
    "client|unpause" Refused(Administration), arity 2 [ADMIN NOSCRIPT LOADING STALE] [CONNECTION]
        "connection" "6.2.0" "Not served: intake is never paused";
}
