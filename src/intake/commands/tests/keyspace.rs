//! Keys that are never there, and what operators ask.

use super::*;

#[test]
fn keys_are_answered_as_absent_ones() {
    let mut bench = Bench::open();
    for (line, reply) in [
        ("EXISTS a b", ":0"),
        ("TYPE a", "+none"),
        ("OBJECT ENCODING a", "$-1"),
        ("OBJECT FREQ a", "$-1"),
        ("GET a", "$-1"),
        ("MGET a b", "*2\r\n$-1\r\n$-1"),
        ("TTL a", ":-2"),
        ("PTTL a", ":-2"),
        ("DBSIZE", ":0"),
        ("LLEN a", ":0"),
        ("XLEN a", ":0"),
        ("LRANGE a 0 -1", "*0"),
        ("LRANGE a b 1", NOT_A_NUMBER),
        ("LTRIM a 0 -1", "+OK"),
        ("LTRIM a 0 x", NOT_A_NUMBER),
        ("DEL a b", ":0"),
        ("UNLINK a", ":0"),
        ("KEYS *", "*0"),
        ("SCAN 0", "*2\r\n$1\r\n0\r\n*0"),
        ("SCAN x", "-ERR invalid cursor"),
        ("SCAN 0 FOO", SYNTAX),
        ("SCAN 0 MATCH", SYNTAX),
        ("SCAN 0 MATCH x COUNT 10 TYPE list", "*2\r\n$1\r\n0\r\n*0"),
        ("SCAN 0 COUNT x", NOT_A_NUMBER),
        ("SCAN 0 COUNT 0", SYNTAX),
        ("WATCH a", "+OK"),
        ("UNWATCH", "+OK"),
        ("ZREMRANGEBYSCORE a -inf (5", ":0"),
        ("ZREMRANGEBYSCORE a x 5", "-ERR min or max is not a float"),
        ("ZREMRANGEBYRANK a 0 -1", ":0"),
        ("ZREMRANGEBYRANK a 0 x", NOT_A_NUMBER),
    ] {
        bench.expect(line, reply);
    }
}

#[test]
fn expire_is_accepted_with_one_because_appenders_take_zero_for_a_failure() {
    let mut bench = Bench::open();
    bench.expect("EXPIRE a 10", ":1").expect("PEXPIRE a 10 NX", ":1").expect("EXPIRE a x", NOT_A_NUMBER);
    bench.expect("EXPIRE a x FOO", "-ERR Unsupported option FOO");
    bench.expect("EXPIRE a 1 NX XX", "-ERR NX and XX, GT or LT options at the same time are not compatible");
    bench.expect("EXPIRE a 1 GT LT", "-ERR GT and LT options at the same time are not compatible");
}

#[test]
fn operators_get_truthful_empty_answers() {
    let mut bench = Bench::open();
    for (line, reply) in [
        ("LATENCY LATEST", "*0"),
        ("LATENCY HISTORY x", "*0"),
        ("LATENCY RESET", ":0"),
        ("LATENCY HISTOGRAM", "*0"),
        ("LATENCY GRAPH x", "-ERR No samples available for event 'x'"),
        ("SLOWLOG GET", "*0"),
        ("SLOWLOG GET 5", "*0"),
        ("SLOWLOG GET x", "-ERR count should be greater than or equal to -1"),
        ("SLOWLOG GET -5", "-ERR count should be greater than or equal to -1"),
        ("SLOWLOG GET 1 2", "-ERR unknown subcommand or wrong number of arguments for 'GET'. Try SLOWLOG HELP."),
        ("SLOWLOG LEN", ":0"),
        ("SLOWLOG RESET", "+OK"),
        ("MEMORY USAGE a", "$-1"),
        ("MEMORY USAGE a SAMPLES x", NOT_A_NUMBER),
        ("MEMORY USAGE a SAMPLES -1", SYNTAX),
        ("MEMORY USAGE a FOO", SYNTAX),
        ("MEMORY PURGE", "+OK"),
        ("PUBSUB CHANNELS", "*0"),
        ("PUBSUB NUMSUB a b", "*4\r\n$1\r\na\r\n:0\r\n$1\r\nb\r\n:0"),
        ("PUBSUB NUMPAT", ":0"),
        ("WAIT 0 0", ":0"),
        ("WAIT 0 -1", "-ERR timeout is negative"),
        ("WAIT 0 x", "-ERR timeout is not an integer or out of range"),
        ("CLIENT UNBLOCK 1", ":0"),
        ("CLIENT UNBLOCK 1 x", "-ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR"),
    ] {
        bench.expect(line, reply);
    }
}
