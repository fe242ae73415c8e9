//! EVAL, EVALSHA and SCRIPT: Tidegate runs no code. Scripts that shippers are known to send, all of which cut a list that
//! is not kept here, are recognised by their text and answered as Redis answers where the list is empty.
//!
//! The text is compared without white space, semicolons and case, and with one kind of quotes. A star in [`KNOWN`] stands
//! for a shipper's setting: it has neither a quote nor a `return`, so that nothing else can hide in it.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use sha1::{Digest, Sha1};

use crate::intake::client::{Client, ServerFacts};
use crate::resp::reply::Reply;

use super::parse::{integer, syntax_error};

/// Hashes of loaded scripts that are kept; every known script in every spelling that is about needs far fewer.
const LOADED: usize = 1024;
/// A known script is shorter than this, in bytes.
const LONGEST: usize = 4096;

/// What a known script answers where its list is empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Nil,
    Ok,
    One,
    NoElements,
}

/// Normalised texts.
const KNOWN: [(&str, Outcome); 7] = [
    // Appenders that cap their list.
    ("redis.call('ltrim',keys[1],*)", Outcome::Nil),
    ("redis.call('ltrim',keys[1],*)return1", Outcome::One),
    ("returnredis.call('ltrim',keys[1],*)", Outcome::Ok),
    // logstash-input-redis, gogstash, StreamSets: a batch taken out.
    (
        "localbatchsize=tonumber(argv[1])localresult=redis.call('lrange',keys[1],0,batchsize)\
         redis.call('ltrim',keys[1],batchsize+1,-1)returnresult",
        Outcome::NoElements,
    ),
    // fluent-plugin-redis-store and its forks.
    (
        "localkey='*'localmaxlen=*localorder='*'locallen=tonumber(redis.call('llen',key))iflen>maxlenthen\
         iforder=='asc'thenlocall=len-maxlenreturnredis.call('ltrim',key,l,-1)\
         elsereturnredis.call('ltrim',key,0,maxlen-1)endend",
        Outcome::Nil,
    ),
    (
        "localkey='*'localmaxlen=*localorder='*'locallen=tonumber(redis.call('zcount',key,'-inf','+inf'))\
         iflen>maxlentheniforder=='asc'thenlocall=len-maxlenifl>=0thenreturnredis.call('zremrangebyrank',key,0,l)end\
         elsereturnredis.call('zremrangebyrank',key,maxlen,-1)endend",
        Outcome::Nil,
    ),
    (
        "localkey='*'localmaxlen=*locallen=tonumber(redis.call('zcount',key,'-inf','+inf'))\
         iflen>maxlenthenlocall=len-maxlenifl>=0thenreturnredis.call('zremrangebyrank',key,0,l)endend",
        Outcome::Nil,
    ),
];

/// The known scripts that were loaded, by hash.
#[derive(Debug, Default)]
pub struct Scripts(Mutex<BTreeSet<([u8; 40], u8)>>);

// === impl Scripts ===

impl Scripts {
    /// Remembers a script, and gives its hash.
    fn load(&self, script: &[u8], known: u8) -> [u8; 40] {
        let hash = hash(script);
        let mut loaded = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if loaded.len() < LOADED {
            loaded.insert((hash, known));
        }
        hash
    }

    fn find(&self, hash: &[u8]) -> Option<u8> {
        let hash: [u8; 40] = hash.to_ascii_lowercase().try_into().ok()?;
        let loaded = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        loaded.range((hash, 0)..=(hash, u8::MAX)).next().map(|(_, known)| *known)
    }

    fn flush(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

// === impl Outcome ===

impl Outcome {
    fn reply(self) -> Reply {
        match self {
            Self::Nil => Reply::Nil,
            Self::Ok => Reply::OK,
            Self::One => Reply::Integer(1),
            Self::NoElements => Reply::Array(Vec::new()),
        }
    }
}

/// EVAL script keys [key …] [argument …].
pub(super) fn eval(args: &[&[u8]], _: &mut Client, server: &ServerFacts<'_>) -> Reply {
    if let Err(error) = check_keys(args) {
        return error;
    }
    let script = args.get(1).copied().unwrap_or_default();
    match recognise(script) {
        Some(known) => {
            server.scripts.load(script, known);
            outcome(known)
        }
        None => unknown_script(),
    }
}

/// EVALSHA hash keys [key …] [argument …].
pub(super) fn evalsha(args: &[&[u8]], _: &mut Client, server: &ServerFacts<'_>) -> Reply {
    if let Err(error) = check_keys(args) {
        return error;
    }
    match server.scripts.find(args.get(1).copied().unwrap_or_default()) {
        Some(known) => outcome(known),
        None => Reply::error("NOSCRIPT No matching script. Please use EVAL."),
    }
}

pub(super) fn load(args: &[&[u8]], _: &mut Client, server: &ServerFacts<'_>) -> Reply {
    let script = args.get(2).copied().unwrap_or_default();
    match recognise(script) {
        Some(known) => Reply::bulk(server.scripts.load(script, known)),
        None => unknown_script(),
    }
}

pub(super) fn exists(args: &[&[u8]], _: &mut Client, server: &ServerFacts<'_>) -> Reply {
    let known = |hash: &&[u8]| Reply::Integer(i64::from(server.scripts.find(hash).is_some()));
    Reply::Array(args.iter().skip(2).map(known).collect())
}

/// SCRIPT FLUSH [ASYNC | SYNC].
pub(super) fn flush(args: &[&[u8]], _: &mut Client, server: &ServerFacts<'_>) -> Reply {
    let good = match args {
        [_, _] => true,
        [_, _, how] => how.eq_ignore_ascii_case(b"sync") || how.eq_ignore_ascii_case(b"async"),
        _ => false,
    };
    if !good {
        return Reply::error("ERR SCRIPT FLUSH only support SYNC|ASYNC option");
    }
    server.scripts.flush();
    Reply::OK
}

pub(super) fn kill(_: &[&[u8]], _: &mut Client, _: &ServerFacts<'_>) -> Reply {
    Reply::error("NOTBUSY No scripts in execution right now.")
}

fn check_keys(args: &[&[u8]]) -> Result<(), Reply> {
    let [_, _, count, rest @ ..] = args else { return Err(syntax_error()) };
    let count = integer(count)?;
    match usize::try_from(count) {
        Err(_) => Err(Reply::error("ERR Number of keys can't be negative")),
        Ok(count) if count > rest.len() => Err(Reply::error("ERR Number of keys can't be greater than number of args")),
        Ok(_) => Ok(()),
    }
}

fn unknown_script() -> Reply {
    Reply::error(
        "ERR this script is not served: Tidegate runs no code and knows only scripts that cut a list; send records with \
         LPUSH, RPUSH, PUBLISH or XADD",
    )
}

fn outcome(known: u8) -> Reply {
    KNOWN.get(usize::from(known)).map_or_else(unknown_script, |(_, outcome)| outcome.reply())
}

/// The place of a script in [`KNOWN`].
fn recognise(script: &[u8]) -> Option<u8> {
    let text = std::str::from_utf8(script).ok().filter(|text| text.len() < LONGEST)?;
    let text: String = text
        .chars()
        .filter(|char| !char.is_whitespace() && *char != ';')
        .map(|char| if char == '"' { '\'' } else { char.to_ascii_lowercase() })
        .collect();
    let place = KNOWN.iter().position(|(known, _)| fits(known, &text))?;
    u8::try_from(place).ok()
}

/// Whether the text is the pattern with each star filled in. A star ends where the text behind it first comes: none of the
/// patterns needs to look further.
fn fits(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| text.strip_prefix(first)) else { return false };
    let parts: Vec<&str> = parts.collect();
    for (place, part) in parts.iter().enumerate() {
        let end = if place + 1 == parts.len() { rest.len().checked_sub(part.len()) } else { rest.find(part) };
        let Some((filled, tail)) = end.and_then(|end| rest.split_at_checked(end)) else { return false };
        if filled.contains('\'') || filled.contains("return") {
            return false;
        }
        let Some(after) = tail.strip_prefix(part) else { return false };
        rest = after;
    }
    rest.is_empty()
}

fn hash(script: &[u8]) -> [u8; 40] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut hex = [0; 40];
    let digit = |value: u8| DIGITS.get(usize::from(value)).copied().unwrap_or_default();
    for (pair, byte) in hex.chunks_exact_mut(2).zip(Sha1::digest(script)) {
        pair.copy_from_slice(&[digit(byte >> 4), digit(byte & 15)]);
    }
    hex
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(script: &str) -> Option<Outcome> {
        recognise(script.as_bytes()).map(|place| KNOWN[usize::from(place)].1)
    }

    #[test]
    fn scripts_are_known_in_every_spelling() {
        let batch = "local batchsize = tonumber(ARGV[1])\n  local result = redis.call('lrange', KEYS[1], 0, batchsize)\n  \
                     redis.call('ltrim', KEYS[1], batchsize + 1, -1)\n  return result\n";
        assert_eq!(known(batch), Some(Outcome::NoElements));
        assert_eq!(known(&batch.replace('\n', ";\n").replace('\'', "\"")), Some(Outcome::NoElements));
        assert_eq!(known("redis.call('LTRIM', KEYS[1], -tonumber(ARGV[1]), -1)"), Some(Outcome::Nil));
        assert_eq!(known("return redis.call(\"ltrim\",KEYS[1],0,ARGV[1]-1)"), Some(Outcome::Ok));
        let fluentd = "local key = 'app log:1'\nlocal maxlen = 500\nlocal order ='asc'\nlocal len = tonumber(redis.call('LLEN', \
                       key))\nif len > maxlen then\n    if order == 'asc' then\n        local l = len - maxlen\n        return \
                       redis.call('LTRIM', key, l, -1)\n    else\n        return redis.call('LTRIM', key, 0, maxlen - 1)\n    \
                       end\nend\n";
        assert_eq!(known(fluentd), Some(Outcome::Nil));
    }

    #[test]
    fn a_script_that_does_more_is_not_known() {
        for script in [
            "",
            "return 1",
            "return redis.call('get', KEYS[1])",
            "redis.call('ltrim',KEYS[1],0,1) redis.call('lpush',KEYS[1],ARGV[1])",
            "redis.call('ltrim',KEYS[1],0,1) return (2)",
            "redis.call('ltrim',KEYS[1],0,redis.call('llen','k'))",
            "redis.call('lpush',KEYS[1],ARGV[1]) redis.call('ltrim',KEYS[1],0,1)",
        ] {
            assert_eq!(known(script), None, "{script}");
        }
        assert_eq!(known(&"x".repeat(LONGEST)), None);
    }

    #[test]
    fn a_hash_is_redis_own_and_what_is_kept_is_bounded() {
        assert_eq!(&hash(b"return 1"), b"e0e1f9fabfc9d4800c877a703b823ac0578ff8db");
        let scripts = Scripts::default();
        let hash = scripts.load(b"a", 3);
        assert_eq!(scripts.find(&hash.to_ascii_uppercase()), Some(3));
        for number in 0..2 * LOADED {
            scripts.load(number.to_string().as_bytes(), 0);
        }
        assert_eq!(scripts.0.lock().unwrap().len(), LOADED);
        scripts.flush();
        assert_eq!(scripts.find(&hash), None);
    }
}
