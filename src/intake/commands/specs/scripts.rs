//! Code on the server: only scripts that cut a list are known.

use super::super::table::{Kind::*, Refusal::*, rows};
use super::super::{introspection, scripts};

rows! {
    /// Code on the server.
    pub(super) static SCRIPTS from 400;
    "eval" Answered(scripts::eval), arity -3 [NOSCRIPT STALE SKIP_MONITOR NO_MANDATORY_KEYS MOVABLEKEYS] [SCRIPTING]
        "scripting" "2.6.0" "Answers known scripts that cut a list; runs no code";
    "evalsha" Answered(scripts::evalsha), arity -3 [NOSCRIPT STALE SKIP_MONITOR NO_MANDATORY_KEYS MOVABLEKEYS] [SCRIPTING]
        "scripting" "2.6.0" "Answers known scripts that cut a list; runs no code";
    "script" Container, arity -2 subcommands(SCRIPT) [] []
        "scripting" "2.6.0" "Commands about scripts";
    "fcall" Refused(Script), arity -3 [NOSCRIPT STALE SKIP_MONITOR NO_MANDATORY_KEYS MOVABLEKEYS] [SCRIPTING]
        "scripting" "7.0.0" "Not served: Tidegate runs no scripts";
    "function" Refused(Script), arity -2 [] []
        "scripting" "7.0.0" "Not served: Tidegate runs no scripts";
}

rows! {
    /// SCRIPT and its sub-commands.
    pub(super) static SCRIPT from 464;
    "script|debug" Refused(Script), arity 3 [NOSCRIPT] [SCRIPTING]
        "scripting" "3.2.0" "Not served: Tidegate runs no scripts";
    "script|exists" Answered(scripts::exists), arity -3 [NOSCRIPT] [SCRIPTING]
        "scripting" "2.6.0" "Says which scripts were loaded";
    "script|flush" Answered(scripts::flush), arity -2 [NOSCRIPT] [SCRIPTING]
        "scripting" "2.6.0" "Forgets the scripts that were loaded";
    "script|help" Answered(introspection::help), arity 2 [LOADING STALE] [SCRIPTING]
        "scripting" "5.0.0" "Lists the sub-commands";
    "script|kill" Answered(scripts::kill), arity 2 [NOSCRIPT ALLOW_BUSY] [SCRIPTING]
        "scripting" "2.6.0" "Answers that none runs";
    "script|load" Answered(scripts::load), arity 3 [NOSCRIPT STALE] [SCRIPTING]
        "scripting" "2.6.0" "Answers the hash of a known script that cuts a list";
}
