use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use rdkafka::{Offset, TopicPartitionList};

use super::super::config::{Compression, KafkaConfig};
use super::super::health::Health;
use super::*;
use crate::record::config::{Accept, Acknowledge, OnRefusal, PartitionBy, RouteConfig, Validate};
use crate::record::headers::{Headers, HeadersBuf};
use crate::record::route::RouteTable;

const PATIENT: Duration = Duration::from_secs(20);

/// A sink over a mock cluster with one topic of one partition.
struct Bed {
    cluster: MockCluster<'static, DefaultProducerContext>,
    budget: Budget,
    sink: KafkaSink,
    to: Destination,
}

fn bed(acknowledge: Acknowledge, hold: Duration) -> Bed {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("t", 1, 1).unwrap();
    let config = KafkaConfig {
        brokers: vec![cluster.bootstrap_servers()],
        linger: Linger::Adaptive,
        compression: Compression::None,
        properties: Default::default(),
        max_created_topics: 0,
    };
    let route = RouteConfig {
        key: "*".into(),
        accept: vec![Accept::List],
        topic: "t".into(),
        allow: vec![],
        create_topic: None,
        acknowledge,
        partition_by: PartitionBy::None,
        hold,
        on_refusal: OnRefusal::Error,
        max_record_size: 1000,
        validate: Validate::None,
        rate_limit: None,
        dead_letter_topic: None,
        enrich: None,
        join_lines: None,
    };
    let routes = RouteTable::compile(vec![route]).unwrap();
    let budget = Budget::new(1 << 20);
    let directory = Directory::start(&config, Arc::new(Health::default())).unwrap();
    let mut sink = KafkaSinkFactory::new(&config, 1000, directory, budget.clone()).build().unwrap();
    let to = sink.destination(&TopicName::new("t").unwrap(), &routes.routes()[0]).unwrap();
    Bed { cluster, budget, sink, to }
}

// === impl Bed ===

impl Bed {
    fn append(&mut self, numbers: std::ops::Range<u32>, waits: bool) {
        let mut headers = HeadersBuf::default();
        headers.push("name", b"value");
        for slot in numbers {
            let value = format!("record {slot:04}");
            // Every other with headers, which go another way into librdkafka.
            let headers = if slot % 2 == 0 { Headers::NONE } else { headers.as_headers() };
            let record = Record { headers, ..Record::plain(value.as_bytes()) };
            assert!(self.budget.try_take(record.cost()));
            let ticket = waits.then_some(Ticket { session: 0, generation: 0, slot });
            self.sink.append(self.to, PartitionChoice::Sticky, record, ticket);
        }
    }

    /// Turns until `done`, collecting outcomes by slot.
    fn turn_until(&mut self, outcomes: &mut Vec<(u32, Result<(), Failure>)>, done: impl Fn(&Self, usize) -> bool) {
        let start = Instant::now();
        while !done(self, outcomes.len()) {
            assert!(start.elapsed() < PATIENT, "{} outcomes, {} unsettled", outcomes.len(), self.sink.unsettled());
            self.sink.flush(Instant::now());
            self.sink.wait(Duration::from_millis(10));
            let now = Instant::now();
            self.sink.outcomes(now, &mut |ticket, outcome| outcomes.push((ticket.slot, outcome)));
            self.sink.tick(now);
        }
    }

    /// What is in the topic, in order.
    fn consumed(&self, count: usize) -> Vec<String> {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", self.cluster.bootstrap_servers())
            .set("group.id", "test")
            .create()
            .unwrap();
        let mut partitions = TopicPartitionList::new();
        partitions.add_partition_offset("t", 0, Offset::Beginning).unwrap();
        consumer.assign(&partitions).unwrap();
        let start = Instant::now();
        let mut values = Vec::new();
        while values.len() < count {
            assert!(start.elapsed() < PATIENT, "{} of {count} records are in Kafka", values.len());
            if let Some(message) = consumer.poll(Duration::from_millis(100)) {
                values.push(String::from_utf8(message.unwrap().payload().unwrap().to_vec()).unwrap());
            }
        }
        values
    }
}

fn numbered(numbers: std::ops::Range<u32>) -> Vec<String> {
    numbers.map(|number| format!("record {number:04}")).collect()
}

#[test]
fn after_a_fatal_error_a_new_producer_sends_what_was_unconfirmed_in_order() {
    let mut bed = bed(Acknowledge::Kafka, PATIENT);
    let mut outcomes = Vec::new();
    bed.append(0..10, true);
    bed.turn_until(&mut outcomes, |_, settled| settled == 10);
    bed.cluster.broker_down(1).unwrap();
    bed.append(10..60, true);
    bed.turn_until(&mut outcomes, |bed, _| bed.sink.in_flight > 0);
    bed.sink.producer.fail_fatally();
    bed.append(60..80, true);
    // Until a new one is there: whether it has a handle of the topic already says nothing, the same turn may ask for it.
    bed.turn_until(&mut outcomes, |bed, _| !bed.sink.producer.is_fatal());
    assert_eq!(outcomes.len(), 10, "nobody is told before it is known");
    bed.cluster.broker_up(1).unwrap();
    bed.turn_until(&mut outcomes, |_, settled| settled == 80);
    assert!(outcomes.iter().all(|(_, outcome)| outcome.is_ok()), "{outcomes:?}");
    assert_eq!(bed.consumed(80), numbered(0..80));
    assert_eq!((bed.sink.unsettled(), bed.budget.used()), (0, 0));
}

#[test]
fn the_first_record_of_a_partition_goes_alone_and_what_waits_for_it_goes_again_where_it_is_refused() {
    let mut bed = bed(Acknowledge::Kafka, PATIENT);
    let mut outcomes = Vec::new();
    // Whatever is in the first request is refused.
    bed.cluster.request_errors(RDKafkaApiKey::Produce, &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE]);
    bed.append(0..20, true);
    bed.turn_until(&mut outcomes, |_, settled| settled == 20);
    let refused: Vec<_> = outcomes.iter().filter(|(_, outcome)| outcome.is_err()).collect();
    assert_eq!(refused, [&(0, Err(Failure::TooLarge))]);
    assert_eq!(bed.consumed(19), numbered(1..20));
    // The partition knows us now: all of it goes at once.
    bed.append(20..40, true);
    bed.turn_until(&mut outcomes, |_, settled| settled == 40);
    assert_eq!(bed.consumed(39), numbered(1..40));
    assert_eq!((bed.sink.unsettled(), bed.budget.used()), (0, 0));
}

#[test]
fn what_waits_for_a_first_record_is_given_up_with_it_while_kafka_is_away() {
    let mut bed = bed(Acknowledge::Kafka, Duration::from_millis(300));
    let mut outcomes = Vec::new();
    bed.cluster.broker_down(1).unwrap();
    // A life of its own for each would take longer than the bed is patient.
    bed.append(0..100, true);
    bed.turn_until(&mut outcomes, |bed, _| bed.sink.unsettled() == 0);
    assert!(outcomes.iter().all(|(_, outcome)| *outcome == Err(Failure::TimedOut)), "{outcomes:?}");
    assert_eq!(bed.budget.used(), 0);
}

#[test]
fn what_was_not_sent_in_time_is_refused_and_never_sent() {
    let mut bed = bed(Acknowledge::Kafka, Duration::from_millis(300));
    let mut outcomes = Vec::new();
    bed.append(0..1, true);
    bed.turn_until(&mut outcomes, |_, settled| settled == 1);
    bed.cluster.broker_down(1).unwrap();
    // The first goes to librdkafka, the second waits here behind it.
    bed.append(1..2, true);
    bed.turn_until(&mut outcomes, |bed, _| bed.sink.in_flight > 0);
    bed.append(2..3, true);
    bed.turn_until(&mut outcomes, |_, settled| settled == 3);
    assert!(outcomes.iter().filter(|(slot, _)| *slot > 0).all(|(_, outcome)| *outcome == Err(Failure::TimedOut)));
    bed.cluster.broker_up(1).unwrap();
    // Until one arrives: everything before it is in Kafka by then, or never will be.
    let mut next = 3;
    while outcomes.last().is_none_or(|(_, outcome)| outcome.is_err()) {
        bed.append(next..next + 1, true);
        next += 1;
        bed.turn_until(&mut outcomes, |_, settled| settled == next as usize);
    }
    let values = bed.consumed(2);
    assert!(!values.contains(&"record 0002".to_owned()), "{values:?}");
    assert_eq!(bed.budget.used(), 0);
}

#[test]
fn what_was_acknowledged_at_once_is_kept_through_an_outage() {
    let mut bed = bed(Acknowledge::Enqueue, Duration::from_millis(300));
    let mut outcomes = Vec::new();
    bed.cluster.broker_down(1).unwrap();
    bed.append(0..50, false);
    let start = Instant::now();
    bed.turn_until(&mut outcomes, |_, _| start.elapsed() > Duration::from_secs(1));
    bed.cluster.broker_up(1).unwrap();
    bed.turn_until(&mut outcomes, |bed, _| bed.sink.unsettled() == 0);
    assert_eq!(bed.consumed(50), numbered(0..50));
}
