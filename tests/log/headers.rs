//! Headers and a record's own time, as they stand in Kafka. The sink is used as intake uses it.

use crate::bed::{Consumed, Kafka, unique, wait_until};
use crate::support::{SOON, consumed};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tidegate::base::budget::Budget;
use tidegate::config;
use tidegate::delivery::{Directory, Health, KafkaSink, KafkaSinkFactory};
use tidegate::record::headers::{Headers, HeadersBuf};
use tidegate::record::origin::Origin;
use tidegate::record::partition::PartitionChoice;
use tidegate::record::route::RouteTable;
use tidegate::record::sink::{Destination, Failure, Record, RecordSink, Ticket};
use tidegate::record::topic::TopicName;

const BUDGET: usize = 1 << 20;

struct Bed {
    sink: KafkaSink,
    budget: Budget,
    to: Destination,
    outcomes: Vec<Result<(), Failure>>,
}

fn bed(topic: &str) -> Bed {
    let brokers = Kafka::shared().bootstrap();
    let text = format!(
        "[log]\nlisten = [\"127.0.0.1:0\"]\n[log.kafka]\nbrokers = [\"{brokers}\"]\n[[log.route]]\nkey = \"*\"\n\
         create_topic = {{ partitions = 1, replication = 1 }}\n"
    );
    let log = config::parse("t.toml", &text).unwrap().config.log.unwrap();
    let routes = RouteTable::compile(log.routes).unwrap();
    let budget = Budget::new(BUDGET);
    let directory = Directory::start(&log.kafka, Arc::new(Health::default())).unwrap();
    let mut sink = KafkaSinkFactory::new(&log.kafka, 1 << 20, directory, budget.clone()).build().unwrap();
    let to = sink.destination(&TopicName::new(topic).unwrap(), &routes.routes()[0]).unwrap();
    Bed { sink, budget, to, outcomes: Vec::new() }
}

// === impl Bed ===

impl Bed {
    fn append(&mut self, choice: PartitionChoice<'_>, record: Record<'_>) {
        assert!(self.budget.try_take(record.cost()));
        let ticket = Ticket { session: 0, generation: 0, slot: 0 };
        self.sink.append(self.to, choice, record, Some(ticket));
    }

    /// Turns until so many records are reported.
    fn settle(&mut self, count: usize) {
        wait_until(SOON, "every record's outcome", || {
            self.sink.flush(Instant::now());
            self.sink.wait(Duration::from_millis(10));
            let now = Instant::now();
            self.sink.outcomes(now, &mut |_, outcome| self.outcomes.push(outcome));
            self.sink.tick(now);
            self.outcomes.len() >= count
        });
        assert!(self.outcomes.iter().all(Result::is_ok), "{:?}", self.outcomes);
        assert_eq!((self.outcomes.len(), self.budget.used()), (count, 0));
    }
}

fn headers(items: &[(&str, &[u8])]) -> HeadersBuf {
    let mut headers = HeadersBuf::default();
    items.iter().for_each(|(name, value)| headers.push(name, value));
    headers
}

fn named(record: &Consumed) -> Vec<(&str, &[u8])> {
    record.headers.iter().map(|(name, value)| (name.as_str(), value.as_slice())).collect()
}

#[test]
fn headers_and_times_arrive_in_their_records_place_among_plain_ones() {
    let topic = unique("headers");
    let mut bed = bed(&topic);
    let key = PartitionChoice::Key(b"key");
    let odd = headers(&[("empty", b""), ("binary", b"\xff\x01"), ("ünicode", "ä".as_bytes())]);
    let one = headers(&[("n", b"1")]);
    let mut from = HeadersBuf::default();
    from.restart_with_origin(&Origin { key: b"k", route: "*", client: "c" });
    bed.append(key, Record::plain(b"0"));
    bed.append(key, Record { headers: odd.as_headers(), ..Record::plain(b"1") });
    bed.append(PartitionChoice::Sticky, Record { headers: one.as_headers(), ..Record::plain(b"") });
    bed.append(key, Record::plain(b"3"));
    bed.append(key, Record { timestamp_ms: Some(1_700_000_000_123), ..Record::plain(b"4") });
    bed.append(PartitionChoice::Key(b""), Record { headers: from.as_headers(), ..Record::plain(b"5") });
    bed.append(PartitionChoice::Key(b""), Record { headers: one.as_headers(), ..Record::plain(b"6") });
    bed.settle(7);
    let records = consumed(&topic, 7);
    let values: Vec<_> = records.iter().map(|record| String::from_utf8_lossy(&record.value)).collect();
    assert_eq!(values, ["0", "1", "", "3", "4", "5", "6"]);
    let keys: Vec<_> = records.iter().map(|record| record.key.as_deref()).collect();
    let named_key = Some(&b"key"[..]);
    assert_eq!(keys, [named_key, named_key, None, named_key, named_key, Some(b""), Some(b"")]);
    let expected: [&[(&str, &[u8])]; 7] = [
        &[],
        &[("empty", b""), ("binary", b"\xff\x01"), ("ünicode", "ä".as_bytes())],
        &[("n", b"1")],
        &[],
        &[],
        &[],
        &[("n", b"1")],
    ];
    for (record, expected) in records.iter().zip(expected) {
        assert_eq!(named(record), expected, "{record:?}");
    }
    assert_eq!(records[4].timestamp, 1_700_000_000_123);
    assert!(records[1].timestamp > 1_700_000_000_123 && records[3].timestamp > 1_700_000_000_123);
}

#[test]
fn thousands_of_headers_of_their_own_keep_their_records_order() {
    let topic = unique("ordered");
    let mut bed = bed(&topic);
    for number in 0..2000_u32 {
        let text = number.to_string();
        let own = headers(&[("number", text.as_bytes())]);
        // Every third is plain, so that runs of both kinds alternate.
        let headers = if number % 3 == 0 { Headers::NONE } else { own.as_headers() };
        bed.append(PartitionChoice::Sticky, Record { headers, ..Record::plain(text.as_bytes()) });
    }
    bed.settle(2000);
    for (number, record) in consumed(&topic, 2000).iter().enumerate() {
        let text = number.to_string();
        assert_eq!(record.value, text.as_bytes());
        let expected: &[(&str, &[u8])] = if number % 3 == 0 { &[] } else { &[("number", text.as_bytes())] };
        assert_eq!(named(record), expected);
    }
}
