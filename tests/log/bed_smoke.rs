//! The test bed checks itself: a bed that is broken must not look like a product that is.

use super::bed::process::Process;
use super::bed::{
    After, Consumed, Direction, Driver, FaultProxy, Kafka, KafkaOptions, Mode, RedisServer, Reply,
    RespClient, WorkDir, admin, consume, consume::consume_with, consume::produce_lines,
    consume_at_least, free_port, kafka::USERS, record, resp, tidegate, unique, wait_until,
};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

const SOON: Duration = Duration::from_secs(10);

fn values(records: &[Consumed]) -> Vec<String> {
    let mut values: Vec<String> = records
        .iter()
        .map(|record| String::from_utf8_lossy(&record.value).into_owned())
        .collect();
    values.sort();
    values
}

#[test]
fn kafka_boots_and_gives_back_what_was_put_in() {
    let kafka = Kafka::shared();
    let topic = unique("smoke");
    assert_eq!(consume(&kafka.bootstrap(), &topic), []);
    kafka.create_topic(&topic, 3, 1, &[("retention.ms", "600000")]);
    assert_eq!(admin::partitions(&kafka.bootstrap(), &topic), 3);
    produce_lines(&kafka.bootstrap(), &topic, "a\nb\nc\n");
    let records = consume_at_least(&kafka.bootstrap(), &topic, 3, SOON);
    assert_eq!(values(&records), ["a", "b", "c"]);
    kafka.delete_topic(&topic);
    wait_until(SOON, "the topic's end", || {
        !admin::topics(&kafka.bootstrap()).contains(&topic)
    });
}

#[test]
fn the_consumer_reads_binary_records_and_many_of_them() {
    let kafka = Kafka::shared();
    let topic = unique("binary");
    kafka.create_topic(&topic, 1, 1, &[]);
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", kafka.bootstrap())
        .set("compression.type", "lz4")
        .create()
        .unwrap();
    let odd: Vec<u8> = (0..=255).chain(*b"\r\n\0\n-1 0\n").collect();
    let headers = OwnedHeaders::new()
        .insert(Header {
            key: "id",
            value: Some("1,2"),
        })
        .insert(Header {
            key: "app",
            value: Some("x"),
        });
    producer
        .send(
            BaseRecord::to(&topic)
                .payload(&odd)
                .key(&odd)
                .headers(headers),
        )
        .unwrap();
    producer
        .send(BaseRecord::<(), [u8]>::to(&topic).payload(b""))
        .unwrap();
    let many = 50_000;
    for i in 0..many {
        let value = format!("line {i}");
        producer
            .send(BaseRecord::<(), str>::to(&topic).payload(&value))
            .unwrap();
    }
    producer.flush(SOON).unwrap();

    let start = Instant::now();
    let records = consume(&kafka.bootstrap(), &topic);
    println!("{} records read in {:?}", records.len(), start.elapsed());
    assert_eq!(records.len(), many + 2);
    assert_eq!(records[0].key, Some(odd.clone()));
    assert_eq!(records[0].value, odd);
    let headers = [("id", "1,2"), ("app", "x")].map(|(k, v)| (k.to_owned(), v.into()));
    assert_eq!(records[0].headers, headers);
    assert_eq!((records[1].key.as_ref(), records[1].value.len()), (None, 0));
    for (i, record) in records[2..].iter().enumerate() {
        assert_eq!(record.value, format!("line {i}").as_bytes());
        assert_eq!(record.offset, i64::try_from(i).unwrap() + 2);
    }
}

#[test]
fn a_topics_configuration_can_be_changed() {
    let kafka = Kafka::shared();
    let topic = unique("altered");
    kafka.create_topic(&topic, 1, 1, &[]);
    kafka.alter_topic(&topic, &[("max.message.bytes", "1000")]);
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", kafka.bootstrap())
        .create()
        .unwrap();
    for size in [2000, 200] {
        let value = vec![b'x'; size];
        producer
            .send(BaseRecord::<(), [u8]>::to(&topic).payload(&value))
            .unwrap();
        producer.flush(SOON).unwrap();
    }
    let sizes: Vec<usize> = consume(&kafka.bootstrap(), &topic)
        .iter()
        .map(|record| record.value.len())
        .collect();
    assert_eq!(sizes, [200]);
}

#[test]
fn kafka_with_sasl_and_tls_lets_the_right_ones_in() {
    let kafka = KafkaOptions::new().sasl().tls().start();
    let topic = unique("secure");
    produce_lines(&kafka.bootstrap(), &topic, "a\nb\n");
    let ca = format!("ssl.ca.location={}", kafka.ca_path().display());
    let (user, password) = USERS[0];
    let login = [
        "sasl.mechanism=PLAIN".to_owned(),
        format!("sasl.username={user}"),
        format!("sasl.password={password}"),
    ];
    let with = |protocol: &str, more: &[String]| {
        let mut all = vec![format!("security.protocol={protocol}"), ca.clone()];
        all.extend_from_slice(more);
        all
    };
    for (bootstrap, properties) in [
        (kafka.ssl_bootstrap(), with("SSL", &[])),
        (kafka.sasl_bootstrap(), with("SASL_PLAINTEXT", &login)),
        (kafka.sasl_ssl_bootstrap(), with("SASL_SSL", &login)),
    ] {
        let properties: Vec<&str> = properties.iter().map(String::as_str).collect();
        let records = consume_with(&bootstrap, &topic, &properties);
        assert_eq!(values(&records), ["a", "b"], "{properties:?}");
    }
    // Debian's librdkafka cannot do SCRAM with this Kafka; Tidegate's own can.
    for (mechanism, password, enters) in [
        ("SCRAM-SHA-256", password, true),
        ("SCRAM-SHA-512", password, true),
        ("SCRAM-SHA-512", "wrong", false),
    ] {
        let client: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", kafka.sasl_ssl_bootstrap())
            .set("security.protocol", "SASL_SSL")
            .set("ssl.ca.location", kafka.ca_path().to_string_lossy())
            .set("sasl.mechanism", mechanism)
            .set("sasl.username", user)
            .set("sasl.password", password)
            .create()
            .unwrap();
        let patience = Duration::from_secs(if enters { 10 } else { 2 });
        let answer = client.fetch_metadata(None, patience);
        assert_eq!(answer.is_ok(), enters, "{mechanism}");
    }
}

#[test]
fn a_cluster_survives_the_death_of_a_node_and_takes_it_back() {
    let start = Instant::now();
    let kafka = Kafka::start_cluster(3);
    println!("three brokers after {:?}", start.elapsed());
    let topic = unique("replicated");
    kafka.create_topic(&topic, 3, 3, &[]);
    produce_lines(&kafka.bootstrap(), &topic, "a\n");
    kafka.kill9(2);
    produce_lines(&kafka.bootstrap(), &topic, "b\n");
    kafka.restart(2);
    produce_lines(&kafka.bootstrap(), &topic, "c\n");
    let records = consume_at_least(&kafka.bootstrap(), &topic, 3, SOON);
    assert_eq!(values(&records), ["a", "b", "c"]);
}

#[test]
fn a_lone_broker_keeps_its_records_over_a_stop_and_a_kill() {
    let start = Instant::now();
    let kafka = Kafka::start();
    println!("one broker after {:?}", start.elapsed());
    let topic = unique("kept");
    produce_lines(&kafka.bootstrap(), &topic, "a\n");
    kafka.stop();
    kafka.restart(1);
    produce_lines(&kafka.bootstrap(), &topic, "b\n");
    kafka.kill9(1);
    let start = Instant::now();
    kafka.restart(1);
    println!("back {:?} after a kill", start.elapsed());
    kafka.freeze(1);
    let client: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", kafka.bootstrap())
        .create()
        .unwrap();
    client
        .fetch_metadata(None, Duration::from_millis(500))
        .unwrap_err();
    kafka.thaw(1);
    client.fetch_metadata(None, SOON).unwrap();
    let records = consume_at_least(&kafka.bootstrap(), &topic, 2, SOON);
    assert_eq!(values(&records), ["a", "b"]);
}

#[test]
fn a_kafka_client_stays_behind_the_proxy() {
    let kafka = KafkaOptions::new().proxied().start();
    let topic = unique("proxied");
    kafka.create_topic(&topic, 1, 1, &[]);
    let proxy = kafka.proxy(1);
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", kafka.proxied_bootstrap())
        .set("message.timeout.ms", "3000")
        .set("reconnect.backoff.max.ms", "200")
        .create()
        .unwrap();
    let produce = |value: &str| {
        producer
            .send(BaseRecord::<(), str>::to(&topic).payload(value))
            .unwrap();
        producer.flush(SOON).unwrap();
    };
    produce("before");
    assert_eq!(consume(&kafka.bootstrap(), &topic).len(), 1);

    // The request arrives, its answer does not: the record is there, and the client cannot know.
    proxy.swallow(Direction::ToClient);
    produce("answer lost");
    assert_eq!(consume(&kafka.bootstrap(), &topic).len(), 2);
    proxy.down();
    produce("never sent");
    assert_eq!(consume(&kafka.bootstrap(), &topic).len(), 2);
    proxy.heal();
    produce("after");
    let records = consume(&kafka.bootstrap(), &topic);
    assert!(values(&records).contains(&"after".to_owned()));
    assert!(!values(&records).contains(&"never sent".to_owned()));
}

/// An echo server for one proxy, on a thread that ends with the last connection.
fn echo() -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", free_port())).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut writer = stream.try_clone().unwrap();
                let _ = std::io::copy(&mut &stream, &mut writer);
            });
        }
    });
    address
}

fn through(proxy: &FaultProxy) -> TcpStream {
    let stream = TcpStream::connect(proxy.address()).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    stream
}

fn said(stream: &mut TcpStream, wait: Duration) -> Option<Vec<u8>> {
    stream.set_read_timeout(Some(wait)).unwrap();
    let mut buffer = [0; 1000];
    let read = stream.read(&mut buffer).ok()?;
    Some(buffer[..read].to_vec())
}

#[test]
fn the_proxy_passes_delays_and_throttles() {
    let proxy = FaultProxy::start(echo());
    let mut stream = through(&proxy);
    let big = vec![7; 3_000_000];
    let mut writer = stream.try_clone().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| writer.write_all(&big).unwrap());
        let mut back = vec![0; big.len()];
        stream.read_exact(&mut back).unwrap();
        assert!(back == big);
    });
    assert_eq!(proxy.forwarded(Direction::ToServer), 3_000_000);

    proxy.delay(Direction::ToServer, Duration::from_millis(100));
    proxy.delay(Direction::ToClient, Duration::from_millis(100));
    let start = Instant::now();
    stream.write_all(b"x").unwrap();
    assert_eq!(said(&mut stream, SOON).unwrap(), b"x");
    assert!(start.elapsed() >= Duration::from_millis(200));

    proxy.heal();
    proxy.throttle(Direction::ToClient, 2, Duration::from_millis(5));
    stream.write_all(b"abcdef").unwrap();
    let mut pieces = Vec::new();
    while pieces.concat() != b"abcdef" {
        pieces.push(said(&mut stream, SOON).unwrap());
    }
    assert!(pieces.iter().all(|piece| piece.len() <= 2), "{pieces:?}");
}

#[test]
fn the_proxy_cuts_and_refuses() {
    let proxy = FaultProxy::start(echo());
    let mut stream = through(&proxy);
    stream.write_all(b"a").unwrap();
    assert_eq!(said(&mut stream, SOON).unwrap(), b"a");
    proxy.cut();
    assert_eq!(said(&mut stream, SOON), None, "a reset");
    wait_until(SOON, "no open connection", || proxy.open() == 0);

    let mut stream = through(&proxy);
    proxy.cut_after(Direction::ToClient, 3, After::Refuse);
    stream.write_all(b"abcdef").unwrap();
    let mut all = Vec::new();
    stream.read_to_end(&mut all).unwrap();
    assert_eq!(all, b"abc");
    wait_until(SOON, "refusal", || {
        TcpStream::connect(proxy.address()).is_err()
    });
    proxy.heal();
    let mut stream = through(&proxy);
    stream.write_all(b"b").unwrap();
    assert_eq!(said(&mut stream, SOON).unwrap(), b"b");
    proxy.refuse();
    TcpStream::connect(proxy.address()).unwrap_err();
    stream.write_all(b"c").unwrap();
    assert_eq!(
        said(&mut stream, SOON).unwrap(),
        b"c",
        "an open one goes on"
    );
}

#[test]
fn the_proxy_swallows_and_stalls() {
    let short = Duration::from_millis(150);
    let proxy = FaultProxy::start(echo());
    let mut stream = through(&proxy);
    proxy.stall(Direction::ToClient);
    stream.write_all(b"held").unwrap();
    assert_eq!(said(&mut stream, short), None);
    proxy.heal();
    assert_eq!(said(&mut stream, SOON).unwrap(), b"held");

    proxy.black_hole();
    let mut second = through(&proxy);
    for stream in [&mut stream, &mut second] {
        stream.write_all(b"lost").unwrap();
        assert_eq!(said(stream, short), None);
    }
    assert_eq!(proxy.forwarded(Direction::ToServer), 4);
    proxy.heal();
    assert_eq!(
        said(&mut stream, SOON),
        None,
        "a stream with a hole is reset"
    );
    wait_until(SOON, "no open connection", || proxy.open() == 0);
}

#[test]
fn every_driver_sends_the_bytes_it_should_in_every_mode() {
    let server = RedisServer::start();
    let mut client = RespClient::connect(server.address());
    let count = 237;
    for driver in Driver::all() {
        for mode in Mode::ALL {
            let key = unique("app");
            let start = Instant::now();
            driver
                .run(server.address(), &key, count, mode, None, SOON * 3)
                .expect_ok(count);
            println!("{} {mode:?}: {:?}", driver.name, start.elapsed());
            assert_eq!(client.command(["LLEN", &key]), Reply::Integer(237));
            let stored = client.command(["LRANGE", &key, "0", "-1"]);
            // The newest comes first.
            for (i, value) in stored.array().iter().rev().enumerate() {
                assert_eq!(value.bytes(), record(&key, i), "{} {mode:?}", driver.name);
            }
        }
    }
}

#[test]
fn every_driver_logs_in_and_reports_a_refusal() {
    let server = RedisServer::start();
    let mut client = RespClient::connect(server.address());
    client.command(["ACL", "SETUSER", "ann", "on", ">secret", "~app*", "+@all"]);
    client.command(["ACL", "SETUSER", "default", "off"]);
    for driver in Driver::all() {
        let run = |user| {
            let login = Some((user, "secret"));
            driver.run(server.address(), "app", 3, Mode::Single, login, SOON * 6)
        };
        run("ann").expect_ok(3);
        let refused = run("bob");
        assert_eq!(refused.code, Some(1), "{} {refused:?}", driver.name);
        assert!(!refused.stderr.is_empty());
    }
}

#[test]
fn the_redis_client_pipelines_and_reads_both_protocols() {
    let server = RedisServer::start();
    let mut client = RespClient::connect(server.address());
    let many = 50_000;
    let one = resp::encode(["RPUSH", "list", "value"]);
    let start = Instant::now();
    let replies = client.pipeline(&one.repeat(many), many);
    println!("{many} commands in {:?}", start.elapsed());
    for (i, reply) in replies.iter().enumerate() {
        assert_eq!(reply.integer(), i64::try_from(i).unwrap() + 1);
    }
    assert_eq!(client.command(["GET", "none"]), Reply::Null);
    assert!(
        client
            .command(["GET", "list"])
            .error()
            .starts_with("WRONGTYPE")
    );
    let Reply::Map(hello) = client.hello3() else {
        panic!("no map")
    };
    assert!(hello.contains(&(Reply::Bulk(b"proto".into()), Reply::Integer(3))));
    assert_eq!(client.command(["GET", "none"]), Reply::Null);
    assert_eq!(client.command(["PING"]), Reply::Simple("PONG".into()));
    client.expect_silence(Duration::from_millis(50));
    client.send(["QUIT"]);
    assert_eq!(client.read(), Reply::Simple("OK".into()));
    client.expect_close();
}

#[test]
fn metrics_are_parsed() {
    let text = "# HELP a b\n# TYPE a counter\na 3\nb{x=\"1 2\",y=\"z\"} 1e3\nc +Inf\n\n";
    let metrics = tidegate::parse_metrics(text);
    assert_eq!(metrics["a"], 3.0);
    assert_eq!(metrics[r#"b{x="1 2",y="z"}"#], 1000.0);
    assert!(metrics["c"].is_infinite());
}

#[test]
fn the_program_can_be_run_to_its_end() {
    let output = tidegate::Tidegate::run_to_end(&["--help"]);
    assert!(output.status.success(), "{output:?}");
}

/// Not a test by itself: what the next two start as a process of its own, and let end badly.
#[test]
fn victim() {
    let Ok(way) = std::env::var("TIDEGATE_BED_VICTIM") else {
        return;
    };
    let directory = WorkDir::new("victim");
    directory.write("some.log", "the last words");
    let mut command = Command::new("sh");
    command.args(["-c", "sleep 1000 & echo started; wait"]);
    let child = Process::start(&command, directory.path(), "sleeper");
    wait_until(SOON, "the sleeper", || !child.stdout().is_empty());
    println!(
        "child {} directory {}",
        child.id(),
        directory.path().display()
    );
    assert_ne!(way, "panic", "as told");
    wait_until(SOON * 6, "the end by SIGKILL", || false);
}

fn start_victim(way: &str, directory: &WorkDir) -> Process {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "bed_smoke::victim"]);
    if way == "kill" {
        // The harness would keep the output of a test that never ends.
        command.arg("--nocapture");
    }
    command.env("TIDEGATE_BED_VICTIM", way);
    Process::start(&command, directory.path(), "victim")
}

/// The victim's child (its process group) and directory.
fn victims(process: &Process) -> Option<(String, String)> {
    let output = String::from_utf8_lossy(&process.stdout()).into_owned();
    let (_, rest) = output.split_once("child ")?;
    let (child, rest) = rest.split_once(" directory ")?;
    let (directory, _) = rest.split_once('\n')?;
    Some((child.to_owned(), directory.to_owned()))
}

fn group_lives(group: &str) -> bool {
    std::fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .any(|process| {
            let stat = std::fs::read_to_string(process.path().join("stat")).unwrap_or_default();
            let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
            let fields: Vec<&str> = fields.split_whitespace().collect();
            // A dead process that nobody has waited for is still listed.
            fields.get(2) == Some(&group) && fields.first() != Some(&"Z")
        })
}

#[test]
fn children_and_directories_go_with_a_killed_test_process() {
    let directory = WorkDir::new("killer");
    let mut victim = start_victim("kill", &directory);
    wait_until(SOON, "the victim's child", || victims(&victim).is_some());
    let (child, work) = victims(&victim).unwrap();
    assert!(group_lives(&child));
    assert!(std::path::Path::new(&work).exists());
    victim.kill9();
    wait_until(SOON, "the child's end", || !group_lives(&child));
    wait_until(SOON, "the directory's end", || {
        !std::path::Path::new(&work).exists()
    });
}

#[test]
fn a_failing_test_keeps_its_directory_and_prints_its_logs() {
    let directory = WorkDir::new("watcher");
    let mut victim = start_victim("panic", &directory);
    assert_eq!(victim.wait(SOON).code(), Some(101));
    let (child, work) = victims(&victim).unwrap();
    assert!(!group_lives(&child));
    let output = String::from_utf8_lossy(&victim.stdout()).into_owned();
    assert!(output.contains("the last words"), "{output}");
    assert!(output.contains(&work), "{output}");
    std::fs::remove_dir_all(&work).unwrap();
}
