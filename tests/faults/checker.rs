//! What must hold of a history and of what a consumer found in Kafka afterwards.
//!
//! - Every acknowledged record was consumed, but for those sent to a topic before somebody deleted it.
//! - Whatever was consumed was sent, byte for byte, to a key of that topic.
//! - Acknowledged records of one connection and key stand in the order of sending within each partition, by where each
//!   stands first in it. One that stands in several, as a restart writes it to another one where no key says which, is in its place in one
//!   of them at least. A record that was refused, or whose answer never came, may arrive late: that is counted.
//! - What stands there more than once has a cause that Tidegate counted.

use crate::bed::Consumed;
use crate::history::{Fate, History, Sent};
use crate::record::{self, Name};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::time::Instant;

/// One topic of a run and what it held at the end.
pub(crate) struct Found {
    /// The places of the keys that are routed to it.
    pub(crate) keys: HashSet<u32>,
    /// What was sent before this instant may have gone with a deleted topic.
    pub(crate) deleted: Option<Instant>,
    /// Nothing of a record says which partition it belongs to: written once more, it may go to another one.
    pub(crate) scatters: bool,
    /// Its records.
    pub(crate) records: Vec<Consumed>,
}

/// What came of a comparison.
#[derive(Clone, Debug, Default)]
pub(crate) struct Verdict {
    /// Records sent, acknowledged, refused, unanswered, and consumed.
    pub(crate) sent: usize,
    pub(crate) acknowledged: usize,
    pub(crate) refused: usize,
    pub(crate) unknown: usize,
    pub(crate) consumed: usize,
    /// Records that stand in Kafka more than once, beyond the first time.
    pub(crate) duplicates: usize,
    /// What Tidegate counted as perhaps duplicated, by cause.
    pub(crate) causes: BTreeMap<String, u64>,
    /// Records that were acknowledged and are not there.
    pub(crate) lost: usize,
    /// Records that were not acknowledged and came behind later ones.
    pub(crate) overtaken: usize,
    /// What must not be.
    pub(crate) problems: Vec<String>,
}

/// Examples of one kind of problem.
const EXAMPLES: usize = 3;

/// Compares.
pub(crate) fn check(run: u64, history: &History, topics: &[Found], causes: BTreeMap<String, u64>) -> Verdict {
    let (acknowledged, refused, unknown) = history.counts();
    let mut verdict =
        Verdict { sent: history.sent.len(), acknowledged, refused, unknown, causes, ..Verdict::default() };
    let sent: HashMap<Name, &Sent> = history.sent.iter().map(|sent| (sent.name, sent)).collect();
    let mut seen: HashMap<Name, i64> = HashMap::new();
    let mut doubled = Vec::new();
    let mut foreign = Vec::new();
    // Of a record that is there twice, the first that is read need not be the first that was written: they may be in two partitions.
    let (mut read, mut in_place, mut behind) = (HashSet::new(), HashSet::new(), Vec::new());
    for (place, topic) in topics.iter().enumerate() {
        let mut order = Order::default();
        for consumed in &topic.records {
            verdict.consumed += 1;
            let known = record::read(run, &consumed.value)
                .and_then(|(name, checksum)| sent.get(&name).filter(|sent| sent.checksum == checksum));
            let Some(sent) = known.filter(|sent| topic.keys.contains(&sent.name.key)) else {
                let text = String::from_utf8_lossy(&consumed.value);
                foreign.push(format!("topic {place}, {}@{}: {text:.80}", consumed.partition, consumed.offset));
                continue;
            };
            if let Some(first) = seen.get(&sent.name) {
                let Consumed { partition, offset, .. } = consumed;
                doubled
                    .push(format!("topic {place}, {partition}@{first} and {offset}: {:?} {:?}", sent.name, sent.fate));
            } else {
                seen.insert(sent.name, consumed.offset);
            }
            if !read.insert((sent.name, consumed.partition)) {
                continue;
            }
            match order.next(consumed.partition, sent) {
                Step::Forward if topic.scatters => drop(in_place.insert(sent.name)),
                Step::Forward => {}
                Step::Overtaken => verdict.overtaken += 1,
                Step::Behind(before) => {
                    let at = format!("topic {place}, {}@{}", consumed.partition, consumed.offset);
                    behind.push((sent.name, format!("{at}: {:?} behind number {before}", sent.name)));
                }
            }
        }
    }
    let lost = history.sent.iter().filter(|sent| {
        let gone = topics.iter().find(|topic| topic.keys.contains(&sent.name.key)).and_then(|topic| topic.deleted);
        matches!(sent.fate, Fate::Acknowledged(_))
            && !seen.contains_key(&sent.name)
            && gone.is_none_or(|gone| sent.at > gone)
    });
    let lost: Vec<String> = lost.map(|sent| format!("{:?} {:?}", sent.name, sent.fate)).collect();
    verdict.lost = lost.len();
    verdict.problem("acknowledged records are not in Kafka", lost);
    verdict.problem("records in Kafka were not sent", foreign);
    let misplaced = behind.into_iter().filter(|(name, _)| !in_place.contains(name)).map(|(_, text)| text);
    verdict.problem("acknowledged records are out of order", misplaced.collect());
    verdict.duplicates = doubled.len();
    let counted: u64 = verdict.causes.values().sum();
    if verdict.duplicates as u64 > counted {
        let causes =
            format!("stand in Kafka once more, and Tidegate knows a cause for {counted}: {:?}", verdict.causes);
        verdict.problem(&format!("records {causes}"), doubled);
    }
    verdict
}

/// The greatest numbers so far of each connection, key and partition: of acknowledged records, and of all.
#[derive(Default)]
struct Order(HashMap<Stream, (Option<u64>, u64)>);

/// Client, its life, key, and partition.
type Stream = (u32, u32, u32, i32);

enum Step {
    Forward,
    Overtaken,
    Behind(u64),
}

impl Order {
    fn next(&mut self, partition: i32, sent: &Sent) -> Step {
        let Name { client, life, key, number } = sent.name;
        let (acknowledged, any) = self.0.entry((client, life, key, partition)).or_default();
        let was_acknowledged = matches!(sent.fate, Fate::Acknowledged(_));
        let step = match *acknowledged {
            Some(before) if was_acknowledged && number < before => Step::Behind(before),
            _ if number < *any => Step::Overtaken,
            _ => Step::Forward,
        };
        if was_acknowledged {
            *acknowledged = (*acknowledged).max(Some(number));
        }
        *any = (*any).max(number);
        step
    }
}

impl Verdict {
    fn problem(&mut self, what: &str, all: Vec<String>) {
        if !all.is_empty() {
            let examples = all.get(..EXAMPLES.min(all.len())).unwrap_or_default().join("; ");
            self.problems.push(format!("{} {what}: {examples}", all.len()));
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { sent, acknowledged, refused, unknown, consumed, duplicates, causes, overtaken, .. } = self;
        write!(
            f,
            "{sent} sent, {acknowledged} acknowledged, {refused} refused, {unknown} unanswered, {consumed} consumed"
        )?;
        write!(f, ", {duplicates} twice (causes: {causes:?}), {overtaken} late")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    const RUN: u64 = 9;

    /// Ten records of one connection to one key, all acknowledged and all in one partition.
    fn clean() -> (History, Vec<Found>) {
        let mut history = History::default();
        let mut records = Vec::new();
        for number in 0..10 {
            let name = Name { client: 1, life: 0, key: 0, number };
            let value = record::write(RUN, name, 80, &mut Random::new(number));
            let checksum = record::read(RUN, &value).unwrap().1;
            history.sent.push(Sent { name, checksum, at: Instant::now(), fate: Fate::Acknowledged(number) });
            let offset = number.cast_signed();
            records.push(Consumed { partition: 0, offset, timestamp: 0, key: None, value, headers: Vec::new() });
        }
        (history, vec![Found { keys: HashSet::from([0]), deleted: None, scatters: true, records }])
    }

    fn problems(history: &History, topics: &[Found], causes: &[(&str, u64)]) -> String {
        let causes = causes.iter().map(|(cause, count)| ((*cause).to_owned(), *count)).collect();
        check(RUN, history, topics, causes).problems.join("\n")
    }

    #[test]
    fn a_clean_run_has_no_problem() {
        let (history, topics) = clean();
        assert_eq!(problems(&history, &topics, &[]), "");
    }

    #[test]
    fn a_record_that_is_not_there_is_a_problem_only_if_it_was_acknowledged_and_its_topic_not_deleted() {
        let (mut history, mut topics) = clean();
        topics[0].records.remove(4);
        assert!(problems(&history, &topics, &[]).starts_with("1 acknowledged records are not in Kafka"));
        topics[0].deleted = Some(Instant::now());
        assert_eq!(problems(&history, &topics, &[]), "");
        topics[0].deleted = None;
        history.sent[4].fate = Fate::Unknown;
        assert_eq!(problems(&history, &topics, &[]), "");
    }

    #[test]
    fn a_damaged_record_is_foreign_and_lost() {
        let (history, mut topics) = clean();
        topics[0].records[2].value[30] ^= 1;
        let problems = problems(&history, &topics, &[]);
        assert!(problems.contains("not in Kafka") && problems.contains("were not sent"), "{problems}");
    }

    #[test]
    fn a_record_in_another_keys_topic_is_foreign() {
        let (history, mut topics) = clean();
        topics[0].keys = HashSet::from([1]);
        assert!(problems(&history, &topics, &[]).contains("were not sent"));
    }

    #[test]
    fn acknowledged_records_out_of_order_are_a_problem_and_a_refused_one_that_comes_late_is_counted() {
        let (mut history, mut topics) = clean();
        topics[0].records.swap(3, 7);
        assert!(problems(&history, &topics, &[]).contains("out of order"));
        let (_, mut late) = clean();
        let moved = late[0].records.remove(3);
        late[0].records.push(moved);
        history.sent[3].fate = Fate::Refused("ERR".into());
        let verdict = check(RUN, &history, &late, BTreeMap::new());
        assert_eq!((verdict.problems.len(), verdict.overtaken), (0, 1));
    }

    #[test]
    fn what_is_written_once_more_to_another_partition_may_be_behind_there_and_not_in_both() {
        let (history, _) = clean();
        // Number 3 is behind number 7 in its partition, and these are in another one as well.
        let twice = |elsewhere: &[usize], scatters: bool| {
            let (_, mut topics) = clean();
            topics[0].scatters = scatters;
            let all = topics[0].records.clone();
            let moved = topics[0].records.remove(3);
            topics[0].records.insert(7, moved);
            let other = elsewhere.iter().map(|at| Consumed { partition: 1, ..all[*at].clone() });
            topics[0].records.extend(other);
            topics
        };
        assert_eq!(problems(&history, &twice(&[2, 3], true), &[("restart", 2)]), "");
        for (elsewhere, scatters) in [([8, 3], true), ([2, 3], false)] {
            assert!(problems(&history, &twice(&elsewhere, scatters), &[("restart", 2)]).contains("out of order"));
        }
    }

    #[test]
    fn a_duplicate_needs_a_cause() {
        let (history, mut topics) = clean();
        let again = topics[0].records[..5].to_vec();
        topics[0].records.extend(again);
        assert!(problems(&history, &topics, &[("restart", 4)]).contains("knows a cause for 4"));
        assert_eq!(problems(&history, &topics, &[("restart", 4), ("timed_out_guard", 1)]), "");
    }
}
