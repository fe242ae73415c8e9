//! The sending pod, by its address. Pods have addresses of loopback here: a client binds to one of them.

use super::api::{Api, pod};
use super::{headers, json};
use crate::bed::{Reply, RespClient, Tidegate, WorkDir, unique, wait_until};
use crate::support::index::Index;
use crate::support::{SOON, Setup, consumed};
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime};

const LONG_AGO: &str = "2026-01-31T12:00:00Z";

struct Bed {
    api: Api,
    tidegate: Tidegate,
    key: String,
    _directory: WorkDir,
}

fn bed(api: Api, form: &str, wait_ms: u32) -> Bed {
    let directory = WorkDir::new("pods");
    let kubeconfig = directory.write("kubeconfig", api.kubeconfig());
    let key = unique("pods");
    let setup = Setup::shared().topic(&key, 1, &format!("enrich = {{ as = \"{form}\", pod = true }}\nhold_ms = 20000"));
    let pods = format!(
        "\n[log.pods]\nkubeconfig = {kubeconfig:?}\nnode = \"n1\"\nwait_ms = {wait_ms}\nforwarders = [\"shop/shipper-*\"]\n"
    );
    let tidegate = Tidegate::start(&(setup.text() + &pods));
    Bed { api, tidegate, key, _directory: directory }
}

// === impl Bed ===

impl Bed {
    fn client(&self, address: &str) -> RespClient {
        RespClient::connect_from(address.parse().unwrap(), self.tidegate.redis_addr())
    }

    fn push(&self, client: &mut RespClient, value: &str) {
        assert_eq!(client.command(["LPUSH", &self.key, value]), Reply::Integer(1), "{value}");
    }

    /// The pod of each record, by its value.
    fn pods_of(&self, count: usize) -> BTreeMap<String, String> {
        let records = consumed(&self.key, count);
        let name = |of: &BTreeMap<String, String>| match of.get("tidegate-pod-name") {
            Some(name) => name.clone(),
            None if of.contains_key("tidegate-pod-unknown") => "unknown".into(),
            None => "none".into(),
        };
        records
            .iter()
            .map(|record| (String::from_utf8_lossy(&record.value).into_owned(), name(&headers(record))))
            .collect()
    }

    /// Waits until a new connection from this address is this pod's.
    fn wait_until_known(&self, address: &str, name: &str) {
        let mut count = 0;
        wait_until(SOON, &format!("{address} to be {name}"), || {
            count += 1;
            let probe = unique("probe");
            self.push(&mut self.client(address), &probe);
            let records =
                crate::bed::consume_at_least(&crate::bed::Kafka::shared().bootstrap(), &self.key, count, SOON);
            let record = records.iter().find(|record| record.value == probe.as_bytes());
            record.is_some_and(|record| headers(record).get("tidegate-pod-name").is_some_and(|found| found == name))
        });
    }
}

/// Now, to the second, as Kubernetes writes it.
fn now() -> String {
    let now = jiff::Timestamp::try_from(SystemTime::now()).unwrap();
    format!(
        "{:.0}",
        now.round(jiff::TimestampRound::new().smallest(jiff::Unit::Second).mode(jiff::RoundMode::Trunc)).unwrap()
    )
}

#[test]
fn pods_with_clashing_labels_make_no_two_types_of_one_field_and_no_record_is_lost() {
    let api = Api::start();
    let clashing: [&[(&str, &str)]; 2] =
        [&[("app", "demo")], &[("app.kubernetes.io/name", "shop"), ("app.kubernetes.io/version", "7"), ("app", "x")]];
    api.put(pod("one", "127.1.0.1", LONG_AGO, clashing[0]));
    api.put(pod("two", "127.1.0.2", LONG_AGO, clashing[1]));
    let bed = bed(api, "fields", 5_000);
    for (address, name) in [("127.1.0.1", "one"), ("127.1.0.2", "two")] {
        let mut client = bed.client(address);
        (0..50).for_each(|number| bed.push(&mut client, &format!("{{\"from\":\"{name}\",\"n\":{number}}}")));
    }
    let records = consumed(&bed.key, 100);
    let mut index = Index::default();
    for record in &records {
        let document = json(record);
        index.take(&document).unwrap();
        assert_eq!(document["tidegate_pod_name"], format!("{}-pod", document["from"].as_str().unwrap()));
        assert_eq!(document["tidegate_pod_namespace"], "shop");
    }
    assert_eq!(index.0["tidegate_pod_label_app_kubernetes_io_name"], "text");
    // As it was before: the labels under their own names.
    let mut naive = Index::default();
    let lost = clashing.iter().filter(|labels| {
        let labels = labels.iter().map(|(name, value)| (format!("pod_label.{name}"), Value::from(*value)));
        naive.take(&Value::Object(labels.collect())).is_err()
    });
    assert_eq!(lost.count(), 1);
}

#[test]
fn a_new_pod_at_an_old_address_is_never_taken_for_the_old_one() {
    let api = Api::start();
    api.put(pod("old", "127.1.0.3", LONG_AGO, &[]));
    let bed = bed(api, "headers", 300);
    bed.wait_until_known("127.1.0.3", "old-pod");
    let before = consumed_now(&bed);
    let mut of_old = bed.client("127.1.0.3");
    bed.push(&mut of_old, "old");
    let second = now();
    bed.api.delete("old");
    wait_until_forgotten(&bed, "127.1.0.3");
    let mut of_nobody = bed.client("127.1.0.3");
    bed.push(&mut of_nobody, "between");
    // A pod's start is known to the second: within one, it is nobody's.
    wait_until(SOON, "the next second", || now() != second);
    bed.api.put(pod("new", "127.1.0.3", &now(), &[]));
    bed.wait_until_known("127.1.0.3", "new-pod");
    bed.push(&mut bed.client("127.1.0.3"), "new");
    bed.push(&mut of_old, "old, late");
    let total = consumed_now(&bed);
    assert!(total > before);
    let pods = bed.pods_of(total);
    assert_eq!(pods["old"], "old-pod");
    assert_eq!(pods["between"], "unknown");
    assert_eq!(pods["new"], "new-pod");
    assert_eq!(pods["old, late"], "old-pod");
}

fn consumed_now(bed: &Bed) -> usize {
    crate::bed::consume(&crate::bed::Kafka::shared().bootstrap(), &bed.key).len()
}

/// Waits until a new connection from this address is nobody's.
fn wait_until_forgotten(bed: &Bed, address: &str) {
    wait_until(SOON, "the pod to be forgotten", || {
        let probe = unique("probe");
        bed.push(&mut bed.client(address), &probe);
        let total = consumed_now(bed);
        bed.pods_of(total)[&probe] == "unknown"
    });
}

#[test]
fn the_first_lines_of_a_pod_wait_until_it_is_known_and_others_do_not_wait_for_them() {
    let api = Api::start();
    let bed = bed(api, "headers", 5_000);
    let mut early = bed.client("127.1.0.4");
    let pushed = Instant::now();
    early.send(["LPUSH", &bed.key, "early"]);
    early.send(["PING"]);
    // Who is no pod is served meanwhile, by the same thread or another.
    for number in 0..4 {
        bed.push(&mut bed.client("127.0.0.1"), &format!("local {number}"));
    }
    early.expect_silence(Duration::from_millis(200));
    bed.api.put(pod("late", "127.1.0.4", &now_minus_one(), &[]));
    assert_eq!(early.read(), Reply::Integer(1));
    assert_eq!(early.read(), Reply::Simple("PONG".into()));
    assert!(pushed.elapsed() < Duration::from_secs(5), "it waited for the bound: {:?}", pushed.elapsed());
    let pods = bed.pods_of(5);
    assert_eq!((pods["early"].as_str(), pods["local 0"].as_str()), ("late-pod", "none"));
}

/// Kubernetes may know a pod's start before its first connection only.
fn now_minus_one() -> String {
    let earlier = SystemTime::now() - Duration::from_secs(10);
    jiff::Timestamp::try_from(earlier).unwrap().to_string()
}

#[test]
fn hosts_and_forwarders_get_no_pod_and_strangers_are_marked_after_a_bounded_wait() {
    let api = Api::start();
    api.put(pod("shipper-1", "127.1.0.5", LONG_AGO, &[]));
    let mut says_so = pod("says-so", "127.1.0.6", LONG_AGO, &[("tidegate.dev/forwards", "true")]);
    says_so["status"]["hostIP"] = "127.1.0.7".into();
    api.put(says_so);
    let mut on_host = pod("on-host", "127.1.0.8", LONG_AGO, &[]);
    on_host["spec"]["hostNetwork"] = true.into();
    on_host["status"]["hostIP"] = "127.1.0.8".into();
    api.put(on_host);
    let bed = bed(api, "headers", 300);
    let addresses = ["127.1.0.5", "127.1.0.6", "127.1.0.7", "127.1.0.8", "127.1.0.9"];
    for address in addresses {
        // The list comes within the wait of the first.
        bed.push(&mut bed.client(address), address);
    }
    bed.push(&mut bed.client("127.1.0.9"), "again");
    let pods = bed.pods_of(6);
    let expected = ["none", "none", "none", "none", "unknown"];
    assert_eq!(addresses.map(|address| pods[address].as_str()), expected);
    assert_eq!(pods["again"], "unknown");
    bed.tidegate.wait_metric("tidegate_log_records_pod_unknown_total", SOON, |count| count == 2.0);
}

#[test]
fn while_nothing_is_heard_of_pods_new_connections_are_nobodys_and_old_ones_stay() {
    let api = Api::start();
    api.put(pod("known", "127.1.0.10", LONG_AGO, &[]));
    let bed = bed(api, "headers", 300);
    bed.wait_until_known("127.1.0.10", "known-pod");
    let mut old = bed.client("127.1.0.10");
    bed.push(&mut old, "before");
    bed.api.fall_silent();
    wait_until_forgotten(&bed, "127.1.0.10");
    bed.push(&mut old, "after");
    let total = consumed_now(&bed);
    let pods = bed.pods_of(total);
    assert_eq!((pods["before"].as_str(), pods["after"].as_str()), ("known-pod", "known-pod"));
}
