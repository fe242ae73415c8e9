//! Greeting, identity, and CLIENT.

use super::*;

#[test]
fn hello_switches_the_protocol_and_names_the_connection() {
    let mut bench = Bench::open();
    let fields = |proto| {
        format!(
            "$6\r\nserver\r\n$5\r\nredis\r\n$7\r\nversion\r\n$5\r\n7.2.4\r\n$5\r\nproto\r\n:{proto}\r\n$2\r\nid\r\n:7\r\n\
             $4\r\nmode\r\n$10\r\nstandalone\r\n$4\r\nrole\r\n$6\r\nmaster\r\n$7\r\nmodules\r\n*0"
        )
    };
    bench.expect("HELLO", &format!("*14\r\n{}", fields(2)));
    bench.expect("HELLO 3 AUTH default any SETNAME abc", &format!("%7\r\n{}", fields(3)));
    bench.expect("CLIENT GETNAME", "$3\r\nabc");
    bench.expect("HELLO", &format!("%7\r\n{}", fields(3)));
    bench.expect("CLIENT SETNAME ''", "+OK").expect("CLIENT GETNAME", "_");
    bench.expect("HELLO 2", &format!("*14\r\n{}", fields(2)));
    bench.expect("CLIENT GETNAME", "$-1");
}

#[test]
fn a_hello_that_is_refused_changes_nothing() {
    let mut bench = Bench::open();
    bench.expect("HELLO 4", "-NOPROTO unsupported protocol version");
    bench.expect("HELLO 1", "-NOPROTO unsupported protocol version");
    bench.expect("HELLO a", "-ERR Protocol version is not an integer or out of range");
    bench.expect("HELLO 3 FOO", "-ERR Syntax error in HELLO option 'FOO'");
    bench.expect("HELLO 3 AUTH a", "-ERR Syntax error in HELLO option 'AUTH'");
    bench.expect("HELLO 3 AUTH a b SETNAME n", WRONG_PASS);
    bench.expect("HELLO 3 SETNAME n SETNAME a\tb", BAD_NAME);
    bench.expect("CLIENT GETNAME", "$-1");
}

#[test]
fn auth_without_a_password_configured_says_so() {
    let mut bench = Bench::open();
    bench.expect(
        "AUTH x",
        "-ERR AUTH <password> called without any password configured for the default user. Are you sure your \
         configuration is correct?",
    );
    bench.expect("AUTH a b", WRONG_PASS).expect("AUTH default x", "+OK").expect("AUTH a b c", SYNTAX);
}

#[test]
fn before_auth_only_what_needs_none_is_answered() {
    let mut bench = Bench::new(&[user("default", Some("sesame"), &[], &[])]);
    let hello = "-NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO AUTH <user> \
                 <pass> option can be used to authenticate the client and select the RESP protocol version at the same \
                 time";
    bench.expect("PING", ASK_AUTH).expect("LPUSH k v", ASK_AUTH).expect("MULTI", ASK_AUTH);
    bench.expect("GET", "-ERR wrong number of arguments for 'get' command");
    bench.expect("NOSUCH a", "-ERR unknown command 'NOSUCH', with args beginning with: 'a' ");
    bench.expect("CLIENT NOPE", "-ERR unknown subcommand 'NOPE'. Try CLIENT HELP.");
    bench
        .expect("HELLO 3 SETNAME x", hello)
        .expect("HELLO 9 AUTH default sesame", "-NOPROTO unsupported protocol version");
    bench.expect("RESET", "+RESET").expect("AUTH bad", WRONG_PASS).expect("HELLO 3 AUTH default bad", WRONG_PASS);
    assert_eq!(bench.client.failed_logins, 2);
    bench.expect("PING", ASK_AUTH).expect("AUTH sesame", "+OK").expect("PING", "+PONG");
    bench.expect("ACL WHOAMI", "$7\r\ndefault").expect("RESET", "+RESET").expect("PING", ASK_AUTH);
}

#[test]
fn users_run_and_write_only_what_they_may() {
    let mut bench = Bench::new(&[user("bob", Some("pw"), &["app-*"], &["+@write", "+ping", "+client|id", "-xadd"])]);
    let may_not_run = |name| format!("-NOPERM this user has no permissions to run the '{name}' command");
    let keys = "-NOPERM this user has no permissions to access one of the keys used as arguments";
    bench.expect("AUTH bob pw", "+OK").expect("PING", "+PONG").expect("CLIENT ID", ":7");
    bench.expect("CLIENT LIST", &may_not_run("client|list")).expect("ACL WHOAMI", &may_not_run("acl|whoami"));
    bench.expect("XADD app-1 * a b", &may_not_run("xadd")).expect("PUBLISH app-1 x", &may_not_run("publish"));
    bench.expect("GET app-1", &may_not_run("get")).expect("DEL app-1", ":0");
    bench
        .expect("LPUSH other x", keys)
        .expect("DEL app-1 other", keys)
        .expect("LPUSH k", &{ "-ERR wrong number of arguments for 'lpush' command".to_owned() });
    let line: [&[u8]; 3] = [b"LPUSH", b"app-1", b"x"];
    assert!(check(table::lookup(line[0]).unwrap(), &line, &bench.client).is_ok());
}

#[test]
fn channels_are_checked_like_keys() {
    let mut bench = Bench::new(&[user("default", None, &["app-*"], &[])]);
    let denied = "-NOPERM this user has no permissions to access one of the channels used as arguments";
    bench.expect("PUBLISH other x", denied).expect("SPUBLISH other x", denied);
    let line: [&[u8]; 3] = [b"PUBLISH", b"app-1", b"x"];
    assert!(check(table::lookup(line[0]).unwrap(), &line, &bench.client).is_ok());
}

#[test]
fn acl_tells_of_users_and_never_of_passwords() {
    let mut bench =
        Bench::new(&[user("bob", Some("sesame"), &["a-*", "b"], &["+@write"]), user("default", None, &[], &[])]);
    let bob = "user bob on ~a-* ~b resetchannels &a-* &b -@all +@write";
    let all = "user default on nopass ~* &* +@all";
    let list = format!("*2\r\n${}\r\n{bob}\r\n${}\r\n{all}", bob.len(), all.len());
    bench.expect("ACL LIST", &list).expect("ACL USERS", "*2\r\n$3\r\nbob\r\n$7\r\ndefault");
    bench.expect("ACL GETUSER nosuch", "$-1").expect("ACL LOG", "*0").expect("ACL LOG RESET", "+OK");
    assert!(!bench.ask("ACL GETUSER bob").contains("sesame"));
    bench.expect("ACL CAT nosuch", "-ERR Unknown category 'nosuch'");
    bench.expect("ACL CAT a b", "-ERR unknown subcommand or wrong number of arguments for 'CAT'. Try ACL HELP.");
    assert!(bench.ask("ACL CAT").starts_with("*21\r\n$8\r\nkeyspace\r\n$4\r\nread\r\n"));
    assert!(bench.ask("ACL CAT connection").contains("$9\r\nclient|id\r\n"));
    bench.expect("ACL DRYRUN bob lpush a-1 x", "+OK");
    bench.expect("ACL DRYRUN bob get a-1", "$53\r\nThis user has no permissions to run the 'get' command");
    bench.expect("ACL DRYRUN bob lpush nokey x", "$54\r\nThis user has no permissions to access the 'nokey' key");
    bench.expect("ACL DRYRUN nosuch get a", "-ERR User 'nosuch' not found");
    bench.expect("ACL DRYRUN bob nosuch", "-ERR Command 'nosuch' not found");
}

#[test]
fn select_takes_sixteen_databases() {
    let mut bench = Bench::open();
    bench.expect("SELECT 15", "+OK").expect("SELECT 16", "-ERR DB index is out of range");
    bench.expect("SELECT -1", "-ERR DB index is out of range").expect("SELECT a", NOT_A_NUMBER);
    bench.expect("SELECT 015", NOT_A_NUMBER).expect("SELECT +1", NOT_A_NUMBER);
    bench.expect("SELECT 99999999999", "-ERR value is out of range, value must between -2147483648 and 2147483647");
    assert_eq!(bench.client.database, 15);
}

#[test]
fn ping_and_echo_give_back_what_they_got() {
    let mut bench = Bench::open();
    bench
        .expect("PING", "+PONG")
        .expect("ping a", "$1\r\na")
        .expect("ECHO hello", "$5\r\nhello")
        .expect("ECHO ''", "$0\r\n");
}

#[test]
fn quit_closes_after_its_reply_and_reset_makes_the_connection_as_new() {
    let mut bench = Bench::open();
    bench.expect("SELECT 3", "+OK").expect("CLIENT SETNAME n", "+OK").expect("CLIENT TRACKING ON", "+OK");
    bench.ask("HELLO 3");
    bench.expect("RESET", "+RESET").expect("CLIENT GETNAME", "$-1").expect("CLIENT GETREDIR", ":-1");
    assert_eq!(bench.client.database, 0);
    bench.expect("QUIT with words", "+OK");
    assert!(bench.client.close_after_reply);
}

#[test]
fn client_names_and_library_info_are_kept_and_shown() {
    let mut bench = Bench::open();
    bench.expect("CLIENT SETNAME worker", "+OK").expect("CLIENT SETINFO lib-name redis-py", "+OK");
    bench
        .expect("CLIENT SETINFO LIB-VER 5.0", "+OK")
        .expect("CLIENT SETINFO nope x", "-ERR Unrecognized option 'nope'");
    assert_eq!(
        bench.ask_args(&[b"CLIENT", b"SETINFO", b"lib-name", b"a b"]),
        "-ERR lib-name cannot contain spaces, newlines or special characters.\r\n"
    );
    assert_eq!(bench.ask_args(&[b"CLIENT", b"SETNAME", b"a\nb"]), format!("{BAD_NAME}\r\n"));
    assert_eq!(bench.ask_args(&[b"CLIENT", b"SETNAME", b"a\x80b"]), format!("{BAD_NAME}\r\n"));
    let line = bench.ask("CLIENT INFO");
    for part in [
        "id=7 addr=10.0.0.1:5000 laddr=10.0.0.2:6379 name=worker age=60 idle=60 flags=N db=0 ",
        " multi=-1 ",
        " user=default redir=-1 resp=2 lib-name=redis-py lib-ver=5.0 ",
    ] {
        assert!(line.contains(part), "{line}");
    }
}

#[test]
fn client_list_shows_every_connection_once_by_number() {
    let mut bench = Bench::open();
    let all = bench.ask("CLIENT LIST");
    let lines: Vec<&str> = all.lines().skip(1).filter(|line| !line.is_empty()).collect();
    assert_eq!(lines.len(), 2);
    assert!(lines[0].starts_with("id=7 addr=") && lines[1] == "id=9 other");
    bench.expect("CLIENT LIST ID 9 5", "$11\r\nid=9 other\n").expect("CLIENT LIST TYPE pubsub", "$0\r\n");
    bench
        .expect("CLIENT LIST TYPE foo", "-ERR Unknown client type 'foo'")
        .expect("CLIENT LIST ID x", "-ERR Invalid client ID");
    bench.expect("CLIENT LIST ID", SYNTAX).expect("CLIENT LIST TYPE", SYNTAX).expect("CLIENT LIST FOO", SYNTAX);
}

#[test]
fn client_reply_switches_what_is_sent() {
    let mut bench = Bench::open();
    bench.expect("CLIENT REPLY x", SYNTAX);
    bench.ask("CLIENT REPLY skip");
    assert_eq!([(); 3].map(|()| bench.client.takes_reply()), [false, false, true]);
    bench.ask("CLIENT REPLY OFF");
    bench.ask("CLIENT REPLY SKIP");
    assert_eq!([(); 3].map(|()| bench.client.takes_reply()), [false; 3]);
    bench.expect("CLIENT REPLY ON", "+OK");
    assert!(bench.client.takes_reply());
}

#[test]
fn tracking_is_accepted_and_described() {
    let mut bench = Bench::open();
    bench.expect("CLIENT TRACKING x", SYNTAX).expect("CLIENT TRACKING ON FOO", SYNTAX);
    bench.expect(
        "CLIENT CACHING yes",
        "-ERR CLIENT CACHING can be called only when the client is in tracking mode with OPTIN or OPTOUT mode enabled",
    );
    bench.expect("CLIENT TRACKING ON OPTIN OPTOUT", "-ERR You can't specify both OPTIN mode and OPTOUT mode");
    bench.expect("CLIENT TRACKING ON BCAST OPTIN", "-ERR OPTIN and OPTOUT are not compatible with BCAST");
    bench.expect("CLIENT TRACKING ON PREFIX a", "-ERR PREFIX option requires BCAST mode to be enabled");
    bench.expect("CLIENT TRACKING ON REDIRECT 99", "-ERR The client ID you want redirect to does not exist");
    bench.expect("CLIENT TRACKING ON OPTIN", "+OK").expect("CLIENT CACHING yes", "+OK").expect("CLIENT GETREDIR", ":0");
    bench.expect("CLIENT CACHING no", "-ERR CLIENT CACHING NO is only valid when tracking is enabled in OPTOUT mode.");
    bench.expect(
        "CLIENT TRACKING ON BCAST",
        "-ERR You can't switch BCAST mode on/off before disabling tracking for this client, and then re-enabling it \
         with a different mode.",
    );
    bench.expect(
        "CLIENT TRACKINGINFO",
        "*6\r\n$5\r\nflags\r\n*2\r\n$2\r\non\r\n$5\r\noptin\r\n$8\r\nredirect\r\n:0\r\n$8\r\nprefixes\r\n*0",
    );
    bench.expect("CLIENT TRACKING OFF", "+OK").expect("CLIENT GETREDIR", ":-1");
}
