//! Reload: what changes does so at once and with every connection open, what is bad changes nothing, and either is seen.

use crate::bed::{Kafka, Reply, Tidegate, WorkDir, admin, consume, unique, wait_until};
use crate::support::load::{Load, LoadOptions};
use crate::support::{SOON, Setup, connect, consumed, values};
use serde_json::Value;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

const RELOADS: &str = "tidegate_config_reloads_total";

fn file(tidegate: &Tidegate) -> PathBuf {
    tidegate.directory().join("tidegate.toml")
}

fn reloads(tidegate: &Tidegate, result: &str) -> f64 {
    tidegate.metric_with(RELOADS, &format!("result=\"{result}\""))
}

/// Writes the configuration anew, says so, and waits until it was taken.
fn reload(tidegate: &mut Tidegate, setup: &Setup) {
    let before = reloads(tidegate, "success");
    std::fs::write(file(tidegate), setup.text()).unwrap();
    tidegate.signal("HUP");
    wait_until(SOON, "the reload", || reloads(tidegate, "success") > before);
}

fn configuration(tidegate: &Tidegate) -> Value {
    let debug: Value = serde_json::from_slice(&tidegate.get("/debug/log").body).unwrap();
    debug["configuration"].clone()
}

#[test]
fn hundreds_of_reloads_under_load_lose_refuse_and_reorder_nothing() {
    let keys: Vec<String> = (0..3).map(|_| unique("reloaded")).collect();
    let directory = WorkDir::new("users");
    let base = Setup::shared();
    let route = |setup: Setup, key: &String, hold: u32| {
        setup.topic(key, 3, &format!("partition_by = \"connection\"\nhold_ms = {hold}"))
    };
    // The routes change places and patience, others come and go, and so do users.
    let one = keys.iter().fold(base.clone(), |setup, key| route(setup, key, 20_000));
    let other = keys.iter().rev().fold(base.clone().route("key = \"other-*\""), |setup, key| route(setup, key, 30_000));
    let other = other
        .user(directory.path(), "somebody", "secret", "")
        .route("key = \"more-*\"\n[[log.user]]\nname = \"default\"");
    let mut tidegate = one.start();
    let options = LoadOptions { connections: 6, depth: 32, size: 200, keys: keys.clone(), may_close: false };
    let load = Load::start(tidegate.redis_addr(), &options);
    wait_until(SOON, "load", || load.acknowledged() > 1_000);
    for round in 0..300 {
        reload(&mut tidegate, if round % 2 == 0 { &other } else { &one });
    }
    let during = load.acknowledged();
    wait_until(SOON, "load after the reloads", || load.acknowledged() > during + 1_000);
    let outcome = load.finish();
    println!("{}", outcome.summary());
    assert_eq!((outcome.refused, outcome.closed), (0, 0), "{:?}", outcome.errors());
    let topics: Vec<_> = keys.iter().map(|key| consume(&Kafka::shared().bootstrap(), key)).collect();
    assert_eq!(topics.iter().map(Vec::len).sum::<usize>() as u64, outcome.acknowledged);
    outcome.verify(&topics);
    // A route goes on counting, wherever it stands.
    let debug: Value = serde_json::from_slice(&tidegate.get("/debug/log").body).unwrap();
    for (key, records) in keys.iter().zip(&topics) {
        let route = debug["routes"].as_array().unwrap().iter().find(|route| route["key"] == key.as_str()).unwrap();
        assert_eq!(route["received_total"], records.len(), "{key}");
    }
    assert_eq!(reloads(&tidegate, "refused"), 0.0);
}

#[test]
fn a_bad_file_is_refused_the_old_configuration_stays_and_it_is_seen() {
    let key = unique("kept");
    let setup = Setup::shared().topic(&key, 1, "");
    let mut tidegate = setup.start();
    let mut client = connect(&tidegate);
    assert_eq!(tidegate.metric("tidegate_config_stale"), 0.0);
    std::fs::write(file(&tidegate), setup.text().replace("key =", "kay =")).unwrap();
    tidegate.signal("HUP");
    wait_until(SOON, "the refusal", || reloads(&tidegate, "refused") >= 1.0);
    assert_eq!(tidegate.metric("tidegate_config_stale"), 1.0);
    let shown = configuration(&tidegate);
    assert_eq!(shown["stale"], true);
    assert!(
        shown["last_error"].as_str().unwrap().contains("log.route[0].kay: unknown key: did you mean key?"),
        "{shown}"
    );
    assert!(tidegate.log().contains("configuration refused"), "{}", tidegate.log());
    assert_eq!(client.command(["LPUSH", &key, "still taken"]), Reply::Integer(1));
    // Rules that only the program as a whole can judge.
    std::fs::write(file(&tidegate), format!("{}[[log.user]]\nname = \"u\"\ncommands = [\"+nosuch\"]", setup.text()))
        .unwrap();
    let refused = reloads(&tidegate, "refused");
    wait_until(SOON, "the next refusal, without a signal", || reloads(&tidegate, "refused") > refused);
    assert!(configuration(&tidegate)["last_error"].as_str().unwrap().contains("+nosuch"));
    std::fs::remove_file(file(&tidegate)).unwrap();
    wait_until(SOON, "a file that is gone", || {
        configuration(&tidegate)["last_error"].as_str().is_some_and(|error| error.contains("cannot be read"))
    });
    std::fs::write(file(&tidegate), setup.text()).unwrap();
    wait_until(SOON, "the mended file, without a signal", || tidegate.metric("tidegate_config_stale") == 0.0);
    let shown = configuration(&tidegate);
    assert_eq!((&shown["stale"], &shown["last_error"]), (&Value::Bool(false), &Value::Null));
    assert_eq!(client.command(["LPUSH", &key, "and now"]), Reply::Integer(1));
    assert_eq!(values(&consumed(&key, 2)), [b"still taken".as_slice(), b"and now"]);
}

#[test]
fn a_change_is_seen_behind_a_link_that_is_pointed_elsewhere() {
    let (one, two) = (unique("linked"), unique("linked"));
    let setup = Setup::shared();
    let mut tidegate = setup.clone().topic(&one, 1, "").start();
    // As the kubelet does: the file is a link into `..data`, which is a link to a directory and is replaced by a rename.
    let directory = tidegate.directory().to_owned();
    for (version, key) in [("v1", &one), ("v2", &two)] {
        std::fs::create_dir(directory.join(version)).unwrap();
        std::fs::write(directory.join(version).join("tidegate.toml"), setup.clone().topic(key, 1, "").text()).unwrap();
    }
    symlink("v1", directory.join("..data")).unwrap();
    symlink("..data/tidegate.toml", directory.join("link")).unwrap();
    std::fs::rename(directory.join("link"), file(&tidegate)).unwrap();
    let mut client = connect(&tidegate);
    assert!(client.command(["LPUSH", &two, "x"]).error().contains("no route"));
    assert_eq!(client.command(["LPUSH", &one, "x"]), Reply::Integer(1));
    symlink("v2", directory.join("..next")).unwrap();
    std::fs::rename(directory.join("..next"), directory.join("..data")).unwrap();
    tidegate.wait_metric(RELOADS, SOON, |count| count >= 1.0);
    // The key that the connection used last first: what it remembers of the route is of before.
    assert!(client.command(["LPUSH", &one, "x"]).error().contains("no route"));
    assert_eq!(client.command(["LPUSH", &two, "x"]), Reply::Integer(1));
    assert!(tidegate.exited().is_none());
}

#[test]
fn an_open_connection_has_the_rights_of_now_and_one_whose_user_is_gone_has_none() {
    let directory = WorkDir::new("users");
    let key = unique("rights");
    let setup = Setup::shared().topic(&key, 1, "");
    let ops = |setup: Setup| setup.user(directory.path(), "ops", "ops secret", "");
    let mut tidegate = ops(setup.clone().user(directory.path(), "app", "app secret", "")).start();
    let mut app = connect(&tidegate);
    assert_eq!(app.command(["AUTH", "app", "app secret"]).bytes(), b"OK");
    assert_eq!(app.command(["LPUSH", &key, "one"]), Reply::Integer(1));
    let mut queued = connect(&tidegate);
    assert_eq!(queued.command(["AUTH", "app", "app secret"]).bytes(), b"OK");
    assert_eq!(queued.command(["MULTI"]).bytes(), b"OK");
    assert_eq!(queued.command(["LPUSH", &key, "never"]).bytes(), b"QUEUED");

    let less = "keys = [\"other-*\"]\ncommands = [\"+lpush\", \"+multi\", \"+exec\"]";
    reload(&mut tidegate, &ops(setup.clone().user(directory.path(), "app", "app secret", less)));
    assert!(app.command(["LPUSH", &key, "two"]).error().starts_with("NOPERM"));
    assert!(app.command(["PING"]).error().starts_with("NOPERM"));
    assert!(queued.command(["EXEC"]).error().starts_with("EXECABORT"), "what was queued is no longer allowed");

    reload(&mut tidegate, &ops(setup.clone()));
    assert!(app.command(["LPUSH", &key, "three"]).error().starts_with("NOAUTH"));
    assert!(app.command(["AUTH", "app", "app secret"]).error().starts_with("WRONGPASS"));
    assert_eq!(app.command(["AUTH", "ops", "ops secret"]).bytes(), b"OK", "the connection itself is as good as ever");
    assert_eq!(app.command(["LPUSH", &key, "four"]), Reply::Integer(1));
    assert_eq!(values(&consumed(&key, 2)), [b"one".as_slice(), b"four"]);
}

#[test]
fn a_new_password_is_for_those_who_come_and_its_file_is_watched() {
    let directory = WorkDir::new("users");
    let key = unique("password");
    let setup = Setup::shared().topic(&key, 1, "").user(directory.path(), "app", "old", "");
    let tidegate = setup.start();
    let mut there = connect(&tidegate);
    assert_eq!(there.command(["AUTH", "app", "old"]).bytes(), b"OK");
    std::fs::write(directory.path().join("app.password"), "new\n").unwrap();
    tidegate.wait_metric(RELOADS, SOON, |count| count >= 1.0);
    assert_eq!(there.command(["LPUSH", &key, "x"]), Reply::Integer(1));
    let mut comes = connect(&tidegate);
    assert!(comes.command(["AUTH", "app", "old"]).error().starts_with("WRONGPASS"));
    assert_eq!(comes.command(["AUTH", "app", "new"]).bytes(), b"OK");
    assert_eq!(configuration(&tidegate)["needs_restart"], serde_json::json!([]));
}

#[test]
fn what_only_a_restart_brings_about_is_named_and_left() {
    let key = unique("restart");
    let setup = Setup::shared().topic(&key, 1, "");
    let mut tidegate = setup.start();
    let more = setup.clone().log("threads = 1\nmemory_limit = \"64MiB\"").kafka("compression = \"zstd\"");
    reload(&mut tidegate, &more.route("key = \"new-*\""));
    let keys = serde_json::json!(["log.kafka.compression", "log.memory_limit", "log.threads"]);
    assert_eq!(configuration(&tidegate)["needs_restart"], keys);
    assert_eq!(tidegate.metric("tidegate_config_needs_restart"), 3.0);
    let log = tidegate.log();
    assert!(log.contains("log.kafka.compression, log.memory_limit, log.threads"), "{log}");
    let debug: Value = serde_json::from_slice(&tidegate.get("/debug/log").body).unwrap();
    assert_eq!(debug["memory_limit"], 256 << 20, "left as it was");
    assert_eq!(debug["routes"].as_array().unwrap().len(), 2, "the rest is in force");
    reload(&mut tidegate, &setup);
    assert_eq!(tidegate.metric("tidegate_config_needs_restart"), 0.0);
}

#[test]
fn a_topic_that_a_reload_lets_tidegate_create_is_created() {
    let key = unique("late");
    let route = format!("key = {key:?}\ntopic = {key:?}\nhold_ms = 300");
    // The test's broker creates no topic by itself where Tidegate is told not to make it do so.
    let setup = Setup::shared().kafka("properties = { \"allow.auto.create.topics\" = false }");
    let mut tidegate = setup.clone().route(&route).start();
    let mut client = connect(&tidegate);
    assert!(matches!(client.command(["LPUSH", &key, "early"]), Reply::Error(_)));
    let creates = format!(
        "key = {key:?}\ntopic = {key:?}\nhold_ms = 20000\ncreate_topic = {{ partitions = 2, replication = 1 }}"
    );
    reload(&mut tidegate, &setup.route(&creates));
    assert_eq!(client.command(["LPUSH", &key, "late"]), Reply::Integer(1));
    assert_eq!(admin::partitions(&Kafka::shared().bootstrap(), &key), 2);
}
