//! The commands as they behave in a terminal and in a pipe, over librdkafka's mock cluster.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, BaseRecord, DefaultProducerContext, Producer};

const PATIENCE: Duration = Duration::from_secs(20);

type Kafka = MockCluster<'static, DefaultProducerContext>;

/// A running `tidegate`, killed if the test ends early.
struct Tidegate(Child);

impl Drop for Tidegate {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    command.args(arguments).env_remove("TIDEGATE_LOG").stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn start(arguments: &[&str]) -> (Tidegate, Receiver<String>, Receiver<String>) {
    let mut child = command(arguments).spawn().unwrap();
    let stdout = lines(child.stdout.take().unwrap());
    let stderr = lines(child.stderr.take().unwrap());
    (Tidegate(child), stdout, stderr)
}

fn lines(from: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = sync_channel(1000);
    thread::spawn(move || BufReader::new(from).lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
    receiver
}

/// The first line that contains `text`; those before it are passed over.
fn wait_for(lines: &Receiver<String>, text: &str) -> String {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let line = lines.recv_timeout(deadline - Instant::now());
        let line = line.unwrap_or_else(|error| panic!("no line with {text:?}: {error}"));
        if line.contains(text) {
            return line;
        }
    }
}

fn signal(child: &Tidegate, name: &str) {
    assert!(Command::new("kill").args([name, &child.0.id().to_string()]).status().unwrap().success());
}

/// The exit code, and how long it took to come.
fn exit(mut child: Tidegate) -> (Option<i32>, Duration) {
    let begun = Instant::now();
    loop {
        if let Some(status) = child.0.try_wait().unwrap() {
            return (status.code(), begun.elapsed());
        }
        assert!(begun.elapsed() < PATIENCE, "it does not end");
        thread::park_timeout(Duration::from_millis(10));
    }
}

fn produce(kafka: &Kafka, topic: &str, values: &[&str]) {
    let producer: BaseProducer =
        ClientConfig::new().set("bootstrap.servers", kafka.bootstrap_servers()).set("linger.ms", "0").create().unwrap();
    for value in values {
        producer.send(BaseRecord::<(), str>::to(topic).payload(value).partition(0)).unwrap();
    }
    producer.flush(PATIENCE).unwrap();
}

#[test]
fn tail_shows_what_arrives_from_now_on() {
    let kafka = Kafka::new(1).unwrap();
    kafka.create_topic("logs.a", 2, 1).unwrap();
    produce(&kafka, "logs.a", &["before"]);
    let (child, stdout, stderr) = start(&["tail", "logs.a", "--brokers", &kafka.bootstrap_servers()]);
    wait_for(&stderr, "following 2 partitions");
    produce(&kafka, "logs.a", &["one", "two"]);
    assert_eq!(stdout.recv_timeout(PATIENCE).unwrap(), "one");
    assert_eq!(stdout.recv_timeout(PATIENCE).unwrap(), "two");
    signal(&child, "-INT");
    let (code, took) = exit(child);
    assert_eq!(code, Some(0));
    assert!(took < Duration::from_secs(1), "{took:?}");
}

#[test]
fn tail_from_the_beginning_filters_and_ends_after_the_count() {
    let kafka = Kafka::new(1).unwrap();
    kafka.create_topic("logs.a", 1, 1).unwrap();
    let wanted = r#"{"level":"error","text":"timeout 1"}"#;
    let other = r#"{"level":"error","text":"refused"}"#;
    let info = r#"{"level":"info","text":"timeout 2"}"#;
    produce(&kafka, "logs.a", &[other, info, "timeout", wanted, wanted]);
    let brokers = kafka.bootstrap_servers();
    let arguments =
        ["tail", "logs.a", "--brokers", &brokers, "--from-beginning", "--grep", "timeout", "--field", "/level=error"];
    let output = command(&[&arguments[..], &["--count", "2"]].concat()).output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(String::from_utf8(output.stdout).unwrap(), format!("{wanted}\n{wanted}\n"));
}

#[test]
fn tail_waits_for_a_topic_that_comes_later_and_misses_nothing_of_it() {
    let kafka = Kafka::new(1).unwrap();
    let (_child, stdout, stderr) = start(&["tail", "logs.later", "--brokers", &kafka.bootstrap_servers()]);
    wait_for(&stderr, "logs.later does not exist yet");
    kafka.create_topic("logs.later", 1, 1).unwrap();
    produce(&kafka, "logs.later", &["first"]);
    assert_eq!(stdout.recv_timeout(PATIENCE).unwrap(), "first");
}

#[test]
fn tail_says_that_kafka_is_away_and_goes_on_when_it_comes_back() {
    let kafka = Kafka::new(1).unwrap();
    kafka.create_topic("logs.a", 1, 1).unwrap();
    kafka.broker_down(-1).unwrap();
    let (child, stdout, stderr) =
        start(&["tail", "logs.a", "--from-beginning", "--brokers", &kafka.bootstrap_servers()]);
    wait_for(&stderr, "Kafka does not answer");
    kafka.broker_up(-1).unwrap();
    wait_for(&stderr, "following 1 partition");
    produce(&kafka, "logs.a", &["back"]);
    assert_eq!(stdout.recv_timeout(PATIENCE).unwrap(), "back");
    kafka.broker_down(-1).unwrap();
    signal(&child, "-INT");
    let (code, took) = exit(child);
    assert_eq!(code, Some(0));
    assert!(took < Duration::from_secs(1), "{took:?}");
}

#[test]
fn tail_ends_quietly_when_its_reader_does() {
    let kafka = Kafka::new(1).unwrap();
    kafka.create_topic("logs.a", 1, 1).unwrap();
    produce(&kafka, "logs.a", &["one", "two"]);
    let mut child = Tidegate(
        command(&["tail", "logs.a", "--from-beginning", "--brokers", &kafka.bootstrap_servers()]).spawn().unwrap(),
    );
    let mut stdout: ChildStdout = child.0.stdout.take().unwrap();
    stdout.read_exact(&mut [0]).unwrap();
    drop(stdout);
    let stderr = lines(child.0.stderr.take().unwrap());
    produce(&kafka, "logs.a", &["three", "four"]);
    assert_eq!(exit(child).0, Some(0));
    assert_eq!(stderr.iter().find(|line| line.contains("rror") || line.contains("anic")), None);
}

#[test]
fn dev_prints_its_addresses_serves_and_ends_within_a_second() {
    let begun = Instant::now();
    let (child, stdout, _stderr) = start(&["dev"]);
    wait_for(&stdout, "kafka  127.0.0.1:");
    let admin = wait_for(&stdout, "admin  http://");
    wait_for(&stdout, "ready");
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    let mut stream = TcpStream::connect(admin.rsplit('/').next().unwrap()).unwrap();
    stream.write_all(b"GET /livez HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.contains(" 200 "), "{answer}");
    signal(&child, "-INT");
    let (code, took) = exit(child);
    assert_eq!(code, Some(0));
    assert!(took < Duration::from_secs(1), "{took:?}");
}

#[test]
fn dev_shows_each_record_that_arrives() {
    let (child, stdout, _stderr) = start(&["dev"]);
    let kafka = wait_for(&stdout, "kafka  ");
    wait_for(&stdout, "ready");
    let brokers = kafka.trim_start_matches("kafka").trim();
    let producer: BaseProducer =
        ClientConfig::new().set("bootstrap.servers", brokers).set("linger.ms", "0").create().unwrap();
    producer.send(BaseRecord::<(), str>::to("logs.app-demo").payload("hello").partition(0)).unwrap();
    producer.flush(PATIENCE).unwrap();
    let line = wait_for(&stdout, "hello");
    assert!(line.ends_with("Z logs.app-demo/0@0 hello"), "{line}");
    drop(child);
}

/// A configuration that runs the admin server alone, so that these tests need no Kafka.
fn admin_only(directory: &Path, listen: &str) -> String {
    let file = directory.join("admin.toml");
    fs::write(&file, format!("[admin]\nlisten = {listen:?}\n")).unwrap();
    file.display().to_string()
}

#[test]
fn run_outlives_a_hangup_and_ends_with_0_on_sigterm() {
    let directory = tempfile::tempdir().unwrap();
    let file = admin_only(directory.path(), "127.0.0.1:0");
    let (child, stdout, stderr) = start(&["run", "--config", &file, "--log-format", "json"]);
    wait_for(&stdout, "admin  http://127.0.0.1:");
    signal(&child, "-HUP");
    let line = wait_for(&stderr, "configuration reloaded");
    assert!(line.starts_with('{') && line.ends_with('}'), "{line}");
    signal(&child, "-TERM");
    assert_eq!(exit(child).0, Some(0));
}

#[test]
fn run_exits_with_1_when_its_port_is_taken_and_with_2_on_a_bad_file() {
    let directory = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = command(&["run", "--config", &admin_only(directory.path(), &address)]).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains(&format!("admin.listen: {address} cannot be listened on")), "{stderr}");

    let file = admin_only(directory.path(), "nowhere");
    let output = command(&["run", "--config", &file]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(
        String::from_utf8(output.stderr).unwrap(),
        format!("{file}:2: admin.listen: \"nowhere\" is no address: write IP:PORT, as \"127.0.0.1:9900\"\n")
    );
    let output = command(&["--log-level", "loud=very", "run", "--config", &file]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
}
