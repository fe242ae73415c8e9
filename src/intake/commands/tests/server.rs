//! What this server says of itself.

use super::*;

#[test]
fn info_gives_what_clients_and_shippers_look_for() {
    let mut bench = Bench::open();
    let all = bench.ask("INFO");
    for line in [
        "# Server\r\nredis_version:7.2.4\r\nredis_mode:standalone\r\n",
        "\r\ntcp_port:6379\r\n",
        "\r\nuptime_in_seconds:61\r\n",
        "\r\n\r\n# Clients\r\nconnected_clients:2\r\n",
        "\r\nused_memory_human:3.00M\r\n",
        "\r\nloading:0\r\n",
        "\r\nrole:master\r\n",
        "\r\n# Tidegate\r\n",
        "\r\nrecords_received:5\r\n",
    ] {
        assert!(all.contains(line), "{line:?} in {all}");
    }
    for same in ["INFO all", "info DEFAULT", "INFO everything", "INFO server all"] {
        assert_eq!(bench.ask(same), all);
    }
}

#[test]
fn info_gives_the_sections_asked_for_and_nothing_for_unknown_ones() {
    let mut bench = Bench::open();
    bench.expect("INFO cluster", "$30\r\n# Cluster\r\ncluster_enabled:0\r\n").expect("INFO nosuch", "$0\r\n");
    let two = bench.ask("INFO replication nosuch SERVER");
    assert!(
        two.contains("# Server")
            && two.contains("\r\n\r\n# Replication\r\nrole:master\r\n")
            && !two.contains("# Stats")
    );
    bench.ask("HELLO 3");
    assert!(bench.ask("INFO cluster").starts_with("=34\r\ntxt:# Cluster\r\n"));
}

#[test]
fn config_get_matches_patterns_and_config_set_points_at_the_file() {
    let mut bench = Bench::open();
    bench.expect("CONFIG GET save", "*2\r\n$4\r\nsave\r\n$0\r\n");
    bench.expect("CONFIG GET SAVE appendonly nope", "*4\r\n$4\r\nsave\r\n$0\r\n\r\n$10\r\nappendonly\r\n$2\r\nno");
    bench.expect("CONFIG GET timeout time*", "*2\r\n$7\r\ntimeout\r\n$2\r\n30");
    bench.expect("CONFIG GET databases", "*2\r\n$9\r\ndatabases\r\n$2\r\n16");
    bench.expect("CONFIG SET a b", "-ERR Unknown option or number of arguments for CONFIG SET - 'a'");
    bench.expect("CONFIG SET a b c", SYNTAX).expect("CONFIG RESETSTAT", "+OK");
    assert!(
        bench
            .ask("CONFIG SET maxclients 1")
            .starts_with("-ERR CONFIG SET failed (possibly related to argument 'maxclients')")
    );
    assert!(bench.ask("CONFIG REWRITE").starts_with("-ERR 'config|rewrite' is not served: "));
}

#[test]
fn role_and_time_have_the_shape_that_clients_read() {
    let mut bench = Bench::open();
    bench.expect("ROLE", "*3\r\n$6\r\nmaster\r\n:0\r\n*0").expect("TIME", "*2\r\n$2\r\n61\r\n$1\r\n7");
}

#[test]
fn command_info_describes_a_command_as_redis_does() {
    let mut bench = Bench::open();
    let lpush = "*10\r\n$5\r\nlpush\r\n:-3\r\n*3\r\n+write\r\n+denyoom\r\n+fast\r\n:1\r\n:1\r\n:1\r\n*3\r\n+@write\r\n+@list\r\n+@fast\r\n\
                 *0\r\n*1\r\n*6\r\n$5\r\nflags\r\n*2\r\n+RW\r\n+insert\r\n$12\r\nbegin_search\r\n*4\r\n$4\r\ntype\r\n$5\r\nindex\r\n\
                 $4\r\nspec\r\n*2\r\n$5\r\nindex\r\n:1\r\n$9\r\nfind_keys\r\n*4\r\n$4\r\ntype\r\n$5\r\nrange\r\n$4\r\nspec\r\n*6\r\n\
                 $7\r\nlastkey\r\n:0\r\n$7\r\nkeystep\r\n:1\r\n$5\r\nlimit\r\n:0\r\n*0";
    bench.expect("COMMAND INFO nosuch lpush", &format!("*2\r\n$-1\r\n{lpush}"));
    assert!(bench.ask("COMMAND INFO client|id").starts_with("*1\r\n*10\r\n$9\r\nclient|id\r\n:2\r\n"));
    bench.expect("COMMAND INFO client|nope lpush|x", "*2\r\n$-1\r\n$-1");
    let count = table::commands().count();
    bench.expect("COMMAND COUNT", &format!(":{count}"));
    for line in ["COMMAND", "COMMAND INFO", "COMMAND LIST"] {
        assert!(bench.ask(line).starts_with(&format!("*{count}\r\n")), "{line}");
    }
    bench.expect("COMMAND NOPE", "-ERR unknown subcommand 'NOPE'. Try COMMAND HELP.");
}

#[test]
fn command_docs_tell_what_a_command_does_here() {
    let mut bench = Bench::open();
    bench.expect("COMMAND DOCS nosuch", "*0");
    bench.expect(
        "COMMAND DOCS lpush nosuch",
        "*2\r\n$5\r\nlpush\r\n*6\r\n$7\r\nsummary\r\n$39\r\nTakes each value as a record of the key\r\n$5\r\nsince\r\n\
         $5\r\n1.0.0\r\n$5\r\ngroup\r\n$4\r\nlist",
    );
    assert!(bench.ask("COMMAND DOCS").starts_with(&format!("*{}\r\n", 2 * table::commands().count())));
    assert!(bench.ask("COMMAND DOCS client").contains("$11\r\nsubcommands\r\n"));
}

#[test]
fn command_getkeys_finds_the_keys() {
    let mut bench = Bench::open();
    bench.expect("COMMAND GETKEYS lpush a b c", "*1\r\n$1\r\na");
    bench.expect("COMMAND GETKEYS del a b", "*2\r\n$1\r\na\r\n$1\r\nb");
    bench.expect("COMMAND GETKEYS object encoding x", "*1\r\n$1\r\nx");
    bench.expect("COMMAND GETKEYS ping a", "-ERR The command has no key arguments");
    bench.expect("COMMAND GETKEYS nosuch a", "-ERR Invalid command specified");
    bench.expect("COMMAND GETKEYS get a b c", "-ERR Invalid number of arguments specified for command");
    bench.expect("COMMAND GETKEYSANDFLAGS lpush a b", "*1\r\n*2\r\n$1\r\na\r\n*2\r\n+RW\r\n+insert");
}

#[test]
fn command_list_filters() {
    let mut bench = Bench::open();
    bench.expect("COMMAND LIST FILTERBY PATTERN *|id", "*1\r\n$9\r\nclient|id");
    bench.expect("COMMAND LIST FILTERBY MODULE any", "*0").expect("COMMAND LIST FILTERBY ACLCAT nosuch", "*0");
    bench.expect("COMMAND LIST FILTERBY NOPE any", SYNTAX).expect("COMMAND LIST FOO", SYNTAX);
    assert!(bench.ask("COMMAND LIST FILTERBY ACLCAT list").contains("$5\r\nlpush\r\n"));
}

#[test]
fn every_container_has_help() {
    let mut bench = Bench::open();
    for spec in table::commands().filter(|spec| spec.name != "cluster" && !spec.subcommands.is_empty()) {
        let reply = bench.ask(&format!("{} HELP", spec.name));
        assert!(reply.starts_with(&format!(
            "*{}\r\n+{} <subcommand> [",
            1 + 2 * spec.subcommands.len(),
            spec.name.to_uppercase()
        )));
    }
}
