//! Who one is: what ACL tells, word for word as redis-server would, and what a wrong password costs.

use crate::bed::{RedisServer, Reply, RespClient, Tidegate, WorkDir, unique};
use crate::support::{SOON, Setup, connect};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// A Tidegate and a redis-server with the same users.
fn both(directory: &WorkDir) -> (Tidegate, RedisServer) {
    let tidegate = Setup::shared()
        .user(
            directory.path(),
            "app",
            "secret",
            "keys = [\"app-*\", \"b\"]\ncommands = [\"+@write\", \"+acl\", \"-lpush\"]",
        )
        .user(directory.path(), "ops", "other", "")
        .route("key = \"*\"\n[[log.user]]\nname = \"default\"")
        .start();
    let redis = RedisServer::start();
    let mut admin = RespClient::connect(redis.address());
    for line in
        ["app on >secret ~app-* ~b resetchannels &app-* &b -@all +@write +acl -lpush", "ops on >other ~* &* +@all"]
    {
        let reply = admin.command(["ACL", "SETUSER"].into_iter().chain(line.split(' ')));
        assert_eq!(reply.bytes(), b"OK");
    }
    (tidegate, redis)
}

/// A reply with the hashes of passwords taken out, which Tidegate never gives in any form.
fn without_hashes(reply: Reply) -> Reply {
    let is_hash = |word: &str| {
        let digits = word.trim_start_matches('#');
        digits.len() == 64 && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
    };
    match reply {
        Reply::Array(elements) => {
            let shown = elements.into_iter().filter(|element| match element {
                Reply::Bulk(bytes) => !is_hash(&String::from_utf8_lossy(bytes)),
                _ => true,
            });
            Reply::Array(shown.map(without_hashes).collect())
        }
        Reply::Bulk(bytes) => {
            let text = String::from_utf8_lossy(&bytes).into_owned();
            let mut words: Vec<&str> = text.split(' ').filter(|word| !is_hash(word)).collect();
            // Redis gives the rules for commands in any order.
            let rules = words.iter().position(|word| *word == "-@all").map_or(words.len(), |place| place + 1);
            words[rules..].sort_unstable();
            Reply::Bulk(words.join(" ").into_bytes())
        }
        other => other,
    }
}

#[test]
fn acl_and_auth_answer_as_redis_server_does() {
    let directory = WorkDir::new("users");
    let (tidegate, redis) = both(&directory);
    let (mut ours, mut theirs) = (connect(&tidegate), RespClient::connect(redis.address()));
    for line in [
        "ACL WHOAMI",
        "ACL USERS",
        "ACL LIST",
        "ACL GETUSER app",
        "ACL GETUSER ops",
        "ACL GETUSER default",
        "ACL GETUSER nosuch",
        "ACL CAT",
        "ACL CAT nosuch",
        "ACL WHOAMI x",
        "ACL GETUSER",
        "ACL DRYRUN app rpush app-1 x",
        "ACL DRYRUN app lpush app-1 x",
        "ACL DRYRUN app rpush other x",
        "ACL DRYRUN nosuch rpush other x",
        "AUTH secret",
        "AUTH",
        "AUTH a b c",
        "AUTH app wrong",
        "AUTH nosuch secret",
        "ACL WHOAMI",
        "AUTH app secret",
        "ACL WHOAMI",
        "PING",
        "LPUSH app-1 x",
        "RPUSH other x",
        "PUBLISH other x",
        "CLIENT ID",
        "AUTH ops wrong",
        "ACL WHOAMI",
        "AUTH ops other",
        "ACL WHOAMI",
        "RESET",
        "ACL WHOAMI",
    ] {
        let words: Vec<&str> = line.split(' ').collect();
        let (our, their) = (ours.command(&words), theirs.command(&words));
        assert_eq!(without_hashes(our), without_hashes(their), "{line}");
    }
    // Redis knows more commands, and this version of it not yet all that are known here: those that both know are of the
    // same categories.
    let categories = ours.command(["ACL", "CAT"]);
    let members = |client: &mut RespClient, category: &Reply| -> BTreeSet<String> {
        let reply = client.command([b"ACL", b"CAT".as_slice(), category.bytes()]);
        reply.array().iter().map(|name| String::from_utf8_lossy(name.bytes()).into_owned()).collect()
    };
    let known: BTreeSet<String> =
        categories.array().iter().flat_map(|category| members(&mut theirs, category)).collect();
    for category in categories.array() {
        let (our, their) = (members(&mut ours, category), members(&mut theirs, category));
        let foreign: Vec<_> = our.difference(&their).filter(|name| known.contains(*name)).collect();
        assert!(foreign.is_empty(), "{category:?}: {foreign:?}");
    }
}

#[test]
fn a_failed_login_is_counted_and_answered_later_each_time_and_nobody_else_waits() {
    let directory = WorkDir::new("users");
    let key = unique("guessed");
    let setup = Setup::shared().log("threads = 1").topic(&key, 1, "").user(directory.path(), "app", "secret", "");
    let tidegate = setup.start();
    let mut there = connect(&tidegate);
    assert_eq!(there.command(["AUTH", "app", "secret"]).bytes(), b"OK");
    let start = Instant::now();
    for n in 0..6 {
        // A new connection does not begin anew.
        let reply = connect(&tidegate).command(["AUTH", "app", &format!("guess {n}")]);
        assert_eq!(reply.error(), "WRONGPASS invalid username-password pair or user is disabled.");
    }
    let least = Duration::from_millis(25 + 50 + 100 + 200 + 400 + 800);
    assert!(start.elapsed() >= least, "{:?}", start.elapsed());
    // What comes behind a guess waits with it; who is there and who knows the password do not.
    let mut guesses = connect(&tidegate);
    guesses.send(["AUTH", "app", "guess"]);
    guesses.send(["PING"]);
    guesses.expect_silence(Duration::from_millis(500));
    for _ in 0..20 {
        assert_eq!(there.command(["LPUSH", &key, "x"]), Reply::Integer(1));
        assert_eq!(connect(&tidegate).command(["AUTH", "app", "secret"]).bytes(), b"OK");
    }
    assert!(guesses.read().error().starts_with("WRONGPASS"));
    assert!(guesses.read().error().starts_with("NOAUTH"));
    tidegate.wait_metric("tidegate_log_logins_failed_total", SOON, |count| count == 7.0);
}
