//! Errors: unknown, malformed and refused commands.

use super::*;

#[test]
fn unknown_commands_are_answered_in_redis_words_to_the_last_quote() {
    let mut bench = Bench::open();
    bench.expect("nosuch", "-ERR unknown command 'nosuch', with args beginning with: ");
    bench.expect("SENTINEL masters", "-ERR unknown command 'SENTINEL', with args beginning with: 'masters' ");
    let long = "x".repeat(140);
    let cut = "x".repeat(128);
    assert_eq!(bench.ask(&long), format!("-ERR unknown command '{cut}', with args beginning with: \r\n"));
    assert_eq!(
        bench.ask(&format!("nosuch {long} b")),
        format!("-ERR unknown command 'nosuch', with args beginning with: '{cut}' \r\n")
    );
    // 23 of 128 bytes are shown already, quotes and spaces counted.
    let alphabet = "abcdefghijklmnopqrstuvwxyz".repeat(6);
    assert_eq!(
        bench.ask_args(&[b"NoSuch", b"a", b"b", b"c d", b"e'f", b"\0\xff\r\n", alphabet.as_bytes()]),
        format!(
            "-ERR unknown command 'NoSuch', with args beginning with: 'a' 'b' 'c d' 'e'f' '' '{}' \r\n",
            alphabet.get(..105).unwrap()
        )
    );
}

#[test]
fn an_unknown_command_cannot_forge_a_reply() {
    let reply = Bench::open().ask_args(&[b"no\r\n+OK\r\nsuch", b"\r\n:1\r\n"]);
    assert_eq!(reply, "-ERR unknown command 'no  +OK  such', with args beginning with: '  :1  ' \r\n");
}

#[test]
fn arity_and_sub_commands_are_checked_in_redis_words() {
    let wrong = |name| format!("-ERR wrong number of arguments for '{name}' command");
    let mut bench = Bench::open();
    for (line, name) in [
        ("LPUSH k", "lpush"),
        ("RPUSH", "rpush"),
        ("PUBLISH a", "publish"),
        ("MULTI x", "multi"),
        ("PING a b", "ping"),
        ("ECHO", "echo"),
        ("CLIENT", "client"),
        ("CLIENT SETNAME", "client|setname"),
        ("client ID x", "client|id"),
        ("CONFIG GET", "config|get"),
        ("COMMAND COUNT x", "command|count"),
        ("COMMAND GETKEYS ping", "command|getkeys"),
        ("CLUSTER SLOTS x", "cluster|slots"),
        ("TIME x", "time"),
        ("RESET x", "reset"),
        ("SUBSCRIBE", "subscribe"),
    ] {
        bench.expect(line, &wrong(name));
    }
    bench.expect("CLIENT FOO bar", "-ERR unknown subcommand 'FOO'. Try CLIENT HELP.");
    bench.expect("client MAINT_NOTIFICATIONS ON", "-ERR unknown subcommand 'MAINT_NOTIFICATIONS'. Try CLIENT HELP.");
    bench.expect("CLUSTER NOPE", "-ERR unknown subcommand 'NOPE'. Try CLUSTER HELP.");
}

#[test]
fn an_exec_that_may_not_run_discards_its_transaction() {
    let why = "wrong number of arguments for 'exec' command";
    Bench::open().expect("EXEC x", &format!("-EXECABORT Transaction discarded because of: {why}"));
    let mut locked = Bench::new(&[user("default", Some("sesame"), &[], &[])]);
    locked.expect("EXEC", "-EXECABORT Transaction discarded because of: NOAUTH Authentication required.");
}

#[test]
fn too_many_arguments_of_some_sub_commands_have_words_of_their_own() {
    let mut bench = Bench::open();
    for (line, container, sub) in [("ACL LOG 1 2", "ACL", "LOG"), ("pubsub channels a b", "PUBSUB", "channels")] {
        let words = "unknown subcommand or wrong number of arguments for";
        bench.expect(line, &format!("-ERR {words} '{sub}'. Try {container} HELP."));
    }
}

#[test]
fn a_known_command_that_is_not_served_says_why_and_where_to_go() {
    let mut bench = Bench::open();
    for (line, remedy) in [
        ("LPOP k", "read them there"),
        ("BLPOP k 0", "read them there"),
        ("SETEX k 9 v", "LPUSH"),
        ("INCR k", "LPUSH"),
        ("FCALL x 0", "no scripts"),
        ("FLUSHALL", "no data set"),
        ("ACL SETUSER x", "configuration file"),
        ("CLIENT KILL 1.1.1.1:1", "no data set"),
    ] {
        let reply = bench.ask(line);
        assert!(reply.starts_with("-ERR '") && reply.contains("' is not served: "), "{reply}");
        assert!(reply.contains(remedy), "{reply}");
    }
    assert!(!bench.client.close_after_reply);
}

#[test]
fn every_command_answers_whatever_its_arguments_are() {
    let mut bench = Bench::open();
    for spec in table::all() {
        for extra in 0..5 {
            let mut args: Vec<&[u8]> = spec.name.split('|').map(str::as_bytes).collect();
            args.extend([&b"\xff\0"[..], b"-1", b"", b"on"].iter().take(extra));
            assert!(bench.ask_args(&args).ends_with("\r\n"), "{}", spec.name);
        }
    }
}
