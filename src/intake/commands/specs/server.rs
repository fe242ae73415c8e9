//! Commands that ask what this server is.

use super::super::table::{Kind::*, Refusal::*, rows};
use super::super::{config, introspection, keyspace, server};

rows! {
    /// What clients and health checks ask.
    pub(super) static SERVER from 80;
    "info" Answered(server::info), arity -1 [LOADING STALE] [DANGEROUS]
        "server" "1.0.0" "Describes the server, by section";
    "role" Answered(server::role), arity 1 [NOSCRIPT LOADING STALE FAST] [ADMIN DANGEROUS]
        "server" "2.8.12" "Answers that this is a master without replicas";
    "time" Answered(server::time), arity 1 [LOADING STALE FAST] []
        "server" "2.6.0" "Answers the server clock";
    "dbsize" Answered(keyspace::zero), arity 1 [READONLY FAST] [KEYSPACE]
        "server" "1.0.0" "Answers 0: every record has left for Kafka";
    "command" Answered(introspection::command), arity -1 subcommands(COMMAND) [LOADING STALE] [CONNECTION]
        "server" "2.8.13" "Describes all commands";
    "config" Container, arity -2 subcommands(CONFIG) [] []
        "server" "2.0.0" "Commands about settings";
    "lolwut" Answered(server::lolwut), arity -1 [READONLY FAST] []
        "server" "5.0.0" "Answers the version";
}

rows! {
    /// COMMAND and its sub-commands.
    pub(super) static COMMAND from 96;
    "command|count" Answered(introspection::count), arity 2 [LOADING STALE] [CONNECTION]
        "server" "2.8.13" "Answers how many commands there are";
    "command|docs" Answered(introspection::docs), arity -2 [LOADING STALE] [CONNECTION]
        "server" "7.0.0" "Documents commands";
    "command|getkeys" Answered(introspection::getkeys), arity -4 [LOADING STALE] [CONNECTION]
        "server" "2.8.13" "Finds the keys of a command line";
    "command|getkeysandflags" Answered(introspection::getkeysandflags), arity -4 [LOADING STALE] [CONNECTION]
        "server" "7.0.0" "Finds the keys of a command line and how they are used";
    "command|help" Answered(introspection::help), arity 2 [LOADING STALE] [CONNECTION]
        "server" "5.0.0" "Lists the sub-commands";
    "command|info" Answered(introspection::info), arity -2 [LOADING STALE] [CONNECTION]
        "server" "2.8.13" "Describes commands by name";
    "command|list" Answered(introspection::list), arity -2 [LOADING STALE] [CONNECTION]
        "server" "7.0.0" "Names the commands, filtered";
}

rows! {
    /// CONFIG and its sub-commands.
    pub(super) static CONFIG from 112;
    "config|get" Answered(config::get), arity -3 [ADMIN NOSCRIPT LOADING STALE] []
        "server" "2.0.0" "Answers the settings that match";
    "config|help" Answered(introspection::help), arity 2 [LOADING STALE] []
        "server" "5.0.0" "Lists the sub-commands";
    "config|resetstat" Answered(keyspace::ok), arity 2 [ADMIN NOSCRIPT LOADING STALE] []
        "server" "2.0.0" "Accepted: counters of Tidegate never go back";
    "config|rewrite" Refused(Configuration), arity 2 [ADMIN NOSCRIPT LOADING STALE] []
        "server" "2.8.0" "Not served: the configuration is a file";
    "config|set" Answered(config::set), arity -4 [ADMIN NOSCRIPT LOADING STALE] []
        "server" "2.0.0" "Not served: the configuration is a file";
}
