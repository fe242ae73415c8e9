//! Brokers, the consumer, and a Kafka client behind a proxy.

use super::SOON;
use crate::bed::consume::{consume_with, produce_lines};
use crate::bed::kafka::USERS;
use crate::bed::{
    Consumed, Direction, Kafka, KafkaOptions, admin, consume, consume_at_least, unique, wait_until,
};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use std::time::{Duration, Instant};

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
