//! The spool between applications and Kafka: an outage is no event for applications, and whatever was acknowledged comes,
//! in order, through failover, replay and restart.

mod acknowledge;
mod changed;
mod drain;
mod full;
mod letters;
mod outage;
mod restart;

use crate::bed::{Consumed, Tidegate, consume, wait_until};
use crate::support::load::{Fate, Outcome};
use std::collections::{HashMap, HashSet};
use std::time::Duration;

/// For a drain, on a machine that is busy with other tests.
const DRAIN: Duration = Duration::from_secs(60);

/// Waits until Kafka has confirmed everything that the spool holds.
fn wait_drained(tidegate: &Tidegate) {
    wait_until(DRAIN, "an empty spool", || {
        tidegate.metric("tidegate_spool_records_left") == 0.0 && tidegate.metric("tidegate_log_in_flight_bytes") == 0.0
    });
}

/// Records that may have been written twice, by the counts of those causes that have this label, as `cause="restart"`, or of all.
fn counted_twice(tidegate: &Tidegate, label: &str) -> usize {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count")]
    let count = tidegate.metric_with("tidegate_log_records_duplicated_total", label) as usize;
    count
}

/// Panics unless every acknowledged record was consumed, nothing that was not sent, and what each connection sent came in
/// order within each partition, a record that came twice being taken at its first coming. Gives how many came again.
fn verify(outcome: &Outcome, topics: &[Vec<Consumed>]) -> usize {
    let sent: HashSet<&[u8]> = outcome.sent.iter().map(|sent| &*sent.value).collect();
    let mut consumed: HashSet<&[u8]> = HashSet::new();
    let mut again = 0;
    for (topic, records) in topics.iter().enumerate() {
        let mut last: HashMap<(i32, &str), u64> = HashMap::new();
        for record in records {
            let text = std::str::from_utf8(&record.value).expect("a record of the load");
            assert!(sent.contains(&*record.value), "nobody sent {text:.40}");
            if !consumed.insert(&record.value) {
                again += 1;
                continue;
            }
            let (connection, rest) = text.split_once(' ').expect("a record of the load");
            let number: u64 = rest.split(' ').next().and_then(|n| n.parse().ok()).expect("a record of the load");
            if let Some(before) = last.insert((record.partition, connection), number) {
                let partition = record.partition;
                assert!(before < number, "connection {connection}, {topic}/{partition}: {number} after {before}");
            }
        }
    }
    let lost = outcome.sent.iter().filter(|sent| sent.fate == Fate::Acknowledged && !consumed.contains(&*sent.value));
    let examples: Vec<_> = lost.map(|sent| String::from_utf8_lossy(&sent.value[..12]).into_owned()).collect();
    assert!(
        examples.is_empty(),
        "{} acknowledged records are lost, as {:?}",
        examples.len(),
        &examples[..examples.len().min(9)]
    );
    again
}

/// As [`verify`], with what each topic of one Kafka holds now.
fn verify_in(outcome: &Outcome, bootstrap: &str, topics: &[String]) -> usize {
    verify(outcome, &topics.iter().map(|topic| consume(bootstrap, topic)).collect::<Vec<_>>())
}
