//! CLUSTER, SENTINEL and scripts: with and without a cluster configured.

use super::*;
use crate::intake::cluster::{ClusterMode, Endpoint};

fn alone() -> Bench {
    let mut bench = Bench::open();
    bench.cluster.config.mode = ClusterMode::Own;
    bench
}

fn of_two() -> Bench {
    let mut bench = Bench::open();
    let nodes = ["10.0.0.1:6379", "10.0.0.2:6379"].map(|text| Endpoint::parse(text).unwrap());
    bench.cluster.config.mode = ClusterMode::Nodes(nodes.into());
    bench
}

#[test]
fn by_the_sentinels_port_it_is_a_sentinel_and_sends_to_the_master() {
    let mut bench = of_two();
    bench.cluster.config.sentinel_port = Some(26_379);
    bench.expect("ROLE", "*3\r\n$6\r\nmaster\r\n:0\r\n*0");
    bench.client.local_address = "10.0.0.2:26379".into();
    bench.expect("ROLE", "*2\r\n$8\r\nsentinel\r\n*1\r\n$8\r\nmymaster");
    bench.expect("SENTINEL GET-MASTER-ADDR-BY-NAME mymaster", "*2\r\n$8\r\n10.0.0.2\r\n$4\r\n6379");
    let others = bench.ask("SENTINEL SENTINELS mymaster");
    assert!(others.contains("10.0.0.1\r\n$4\r\nport\r\n$5\r\n26379\r\n"), "{others}");
}

fn id_of(address: &str) -> String {
    Endpoint::parse(address).unwrap().id()
}

#[test]
fn cluster_clients_are_told_that_there_is_no_cluster() {
    let mut bench = Bench::open();
    for line in
        ["CLUSTER SLOTS", "CLUSTER SHARDS", "CLUSTER NODES", "CLUSTER INFO", "CLUSTER HELP", "READONLY", "ASKING"]
    {
        bench.expect(line, "-ERR This instance has cluster support disabled");
    }
}

#[test]
fn alone_it_owns_every_slot_at_the_address_that_the_client_reached() {
    let id = id_of("10.0.0.2:6379");
    let mut bench = alone();
    let address = format!("*4\r\n$8\r\n10.0.0.2\r\n:6379\r\n$40\r\n{id}\r\n*0");
    bench.expect("CLUSTER SLOTS", &format!("*1\r\n*3\r\n:0\r\n:16383\r\n{address}"));
    bench.expect(
        "CLUSTER SHARDS",
        &format!(
            "*1\r\n*4\r\n$5\r\nslots\r\n*2\r\n:0\r\n:16383\r\n$5\r\nnodes\r\n*1\r\n*14\r\n$2\r\nid\r\n$40\r\n{id}\r\n\
             $4\r\nport\r\n:6379\r\n$2\r\nip\r\n$8\r\n10.0.0.2\r\n$8\r\nendpoint\r\n$8\r\n10.0.0.2\r\n\
             $4\r\nrole\r\n$6\r\nmaster\r\n$18\r\nreplication-offset\r\n:0\r\n$6\r\nhealth\r\n$6\r\nonline"
        ),
    );
    let line = format!("{id} 10.0.0.2:6379@16379 myself,master - 0 0 0 connected 0-16383\n");
    bench.expect("CLUSTER NODES", &format!("${}\r\n{line}", line.len()));
    bench.expect("CLUSTER MYID", &format!("$40\r\n{id}"));
    assert!(bench.ask("CLUSTER INFO").contains("cluster_state:ok\r\ncluster_slots_assigned:16384\r\n"));
    assert!(bench.ask("INFO cluster").contains("cluster_enabled:1"));
    assert!(bench.ask("INFO server").contains("redis_mode:cluster"));
    assert!(bench.ask("HELLO").contains("$4\r\nmode\r\n$7\r\ncluster\r\n"));
    bench.expect("CONFIG GET cluster-enabled", "*2\r\n$15\r\ncluster-enabled\r\n$3\r\nyes");
}

#[test]
fn several_instances_share_the_slots_and_one_of_them_is_this() {
    let mut bench = of_two();
    let slots = bench.ask("CLUSTER SLOTS");
    assert!(slots.starts_with("*2\r\n*3\r\n:0\r\n:8191\r\n*4\r\n$8\r\n10.0.0.1\r\n"), "{slots}");
    assert!(slots.contains("*3\r\n:8192\r\n:16383\r\n*4\r\n$8\r\n10.0.0.2\r\n"), "{slots}");
    let nodes = bench.ask("CLUSTER NODES");
    assert!(
        nodes.contains(&format!("{} 10.0.0.1:6379@16379 master - 0 0 0 connected 0-8191\n", id_of("10.0.0.1:6379")))
    );
    assert!(nodes.contains("10.0.0.2:6379@16379 myself,master - 0 0 1 connected 8192-16383\n"));
}

#[test]
fn what_is_asked_of_slots_and_nodes_has_redis_words() {
    let mut bench = alone();
    for (line, reply) in [
        // Known from redis-server; the second by its hash tag alone.
        ("CLUSTER KEYSLOT a", ":15495"),
        ("CLUSTER KEYSLOT x{a}y", ":15495"),
        ("CLUSTER COUNTKEYSINSLOT 5", ":0"),
        ("CLUSTER COUNTKEYSINSLOT 16384", "-ERR Invalid slot"),
        ("CLUSTER COUNTKEYSINSLOT x", NOT_A_NUMBER),
        ("CLUSTER GETKEYSINSLOT 5 1", "*0"),
        ("CLUSTER GETKEYSINSLOT 5 -1", "-ERR Invalid slot or number of keys"),
        ("CLUSTER REPLICAS abc", "-ERR Unknown node abc"),
        ("CLUSTER COUNT-FAILURE-REPORTS x", "-ERR Unknown node x"),
        ("CLUSTER LINKS", "*0"),
        ("READONLY", "+OK"),
        ("READWRITE", "+OK"),
        ("ASKING", "+OK"),
    ] {
        bench.expect(line, reply);
    }
    assert!(bench.ask("CLUSTER MEET a 1").starts_with("-ERR 'cluster|meet' is not served: "));
    assert!(bench.ask("CLUSTER HELP").starts_with("*"));
}

#[test]
fn sentinel_clients_find_this_instance_as_the_master() {
    let mut bench = alone();
    bench.cluster.config.sentinel_masters = vec!["mymaster".into(), "logs".into()];
    for (line, reply) in [
        ("SENTINEL get-master-addr-by-name logs", "*2\r\n$8\r\n10.0.0.2\r\n$4\r\n6379"),
        ("sentinel GET-MASTER-ADDR-BY-NAME nosuch", "*-1"),
        ("SENTINEL master nosuch", "-ERR No such master with that name"),
        ("SENTINEL replicas logs", "*0"),
        ("SENTINEL slaves nosuch", "-ERR No such master with that name"),
        ("SENTINEL sentinels logs", "*0"),
        ("SENTINEL ckquorum logs", "+OK 1 usable Sentinels. Quorum and failover authorization can be reached"),
        ("SENTINEL is-master-down-by-addr 1 2 3 4", "*3\r\n:0\r\n$1\r\n*\r\n:0"),
        ("SENTINEL", "-ERR wrong number of arguments for 'sentinel' command"),
        (
            "SENTINEL get-master-addr-by-name",
            "-ERR wrong number of arguments for 'sentinel|get-master-addr-by-name' command",
        ),
        ("SENTINEL nosuch", "-ERR unknown subcommand 'nosuch'. Try SENTINEL HELP."),
    ] {
        bench.expect(line, reply);
    }
    let masters = bench.ask("SENTINEL MASTERS");
    assert!(
        masters.starts_with("*2\r\n*40\r\n$4\r\nname\r\n$8\r\nmymaster\r\n$2\r\nip\r\n$8\r\n10.0.0.2\r\n"),
        "{masters}"
    );
    assert!(masters.contains("$5\r\nflags\r\n$6\r\nmaster\r\n") && masters.contains("$4\r\nname\r\n$4\r\nlogs\r\n"));
    let others = of_two().ask("SENTINEL SENTINELS mymaster");
    assert!(others.starts_with("*1\r\n*24\r\n") && others.contains("$8\r\n10.0.0.1\r\n"), "{others}");
}

#[test]
fn scripts_that_cut_a_list_are_answered_as_for_an_empty_one() {
    let mut bench = Bench::open();
    let trim = b"return redis.call('ltrim', KEYS[1], 0, ARGV[1])";
    let sha = bench.ask_args(&[b"SCRIPT", b"LOAD", trim]);
    let sha = sha.strip_prefix("$40\r\n").unwrap().trim_end().to_owned();
    assert_eq!(bench.ask_args(&[b"EVALSHA", sha.as_bytes(), b"1", b"k", b"9"]), "+OK\r\n");
    assert_eq!(bench.ask_args(&[b"EVAL", trim, b"1", b"k", b"9"]), "+OK\r\n");
    bench.expect(&format!("SCRIPT EXISTS {sha} x"), "*2\r\n:1\r\n:0");
    bench.expect("SCRIPT FLUSH x", "-ERR SCRIPT FLUSH only support SYNC|ASYNC option").expect("SCRIPT FLUSH", "+OK");
    for (line, reply) in [
        (format!("EVALSHA {sha} 0").as_str(), "-NOSCRIPT No matching script. Please use EVAL."),
        ("EVAL x a", NOT_A_NUMBER),
        ("EVAL x -1", "-ERR Number of keys can't be negative"),
        ("EVAL x 1", "-ERR Number of keys can't be greater than number of args"),
        ("SCRIPT KILL", "-NOTBUSY No scripts in execution right now."),
    ] {
        bench.expect(line, reply);
    }
    assert!(bench.ask("EVAL x 0").contains("runs no code"));
}
