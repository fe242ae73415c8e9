//! Whether librdkafka still works at what it holds of one partition. Decides, does nothing.
//!
//! A topic that is deleted and made anew counts its leaders' epochs from 0 again. librdkafka takes a lower epoch for old news,
//! whatever the topic's id says; where it had lost the partition's leader before, as its broker restarted, it then finds none for
//! as long as it lives: it keeps what it was handed, and neither sends nor reports it (confluentinc/librdkafka issue 4898, met
//! with 2.12.1). Only a new producer helps.
//!
//! What is seen of that: records are with it, Kafka has answered for none of them in a time in which it gives up on a dead broker
//! and finds another, and Kafka, asked then by another client, names a leader. A partition with too few replicas, or
//! whose leader alone is out of reach, looks the same, and a new producer does not help it. What had been sent may then be
//! there twice, so the time doubles with each new producer until Kafka answers for a record.

use std::time::{Duration, Instant};

/// The longest time between two new producers for the sake of one partition.
const MOST: Duration = Duration::from_secs(600);

/// What is logged of it.
pub(super) const STALLED: &str =
    "keeps records and sends none, though the partition has a leader: its producer is made anew";

/// What there is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing.
    Works,
    /// Ask Kafka for the topic, so that what is known of its leaders is news.
    Ask,
    /// Make the producer anew.
    Stalled,
}

/// What is known of a partition from elsewhere.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known {
    /// Something of it is with librdkafka.
    pub(super) is_in_flight: bool,
    /// It has a leader.
    pub(super) has_leader: bool,
    /// How often Kafka has told of the topic.
    pub(super) looks: u64,
}

/// What one partition has been through.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Stall {
    /// Since when something is with librdkafka, and Kafka has answered for nothing.
    since: Option<Instant>,
    /// How often Kafka had told of the topic when it was asked again.
    asked: Option<u64>,
    is_stalled: bool,
    /// New producers that did not help.
    vain: u32,
}

// === impl Stall ===

impl Stall {
    /// Kafka has answered for a record of it: confirmed or refused it.
    pub(super) fn answered(&mut self) {
        *self = Self::default();
    }

    /// Looks at it, once in a while. `patience` is for the first time.
    pub(super) fn look(&mut self, now: Instant, patience: Duration, known: Known) -> Verdict {
        // Records that are given up by time are with it again and again.
        if !known.is_in_flight {
            return Verdict::Works;
        }
        let waited = now.saturating_duration_since(*self.since.get_or_insert(now));
        let patience =
            patience.saturating_mul(1_u32.checked_shl(self.vain).unwrap_or(u32::MAX)).min(MOST.max(patience));
        if waited < patience {
            return Verdict::Works;
        }
        match self.asked {
            None => {
                self.asked = Some(known.looks);
                Verdict::Ask
            }
            Some(before) if known.looks == before => Verdict::Works,
            Some(_) if !known.has_leader => {
                // It has nowhere to go; counting begins with its next leader.
                (self.since, self.asked) = (Some(now), None);
                Verdict::Works
            }
            Some(_) => {
                self.is_stalled = true;
                Verdict::Stalled
            }
        }
    }

    /// There is a new producer, for the sake of this partition or of another.
    pub(super) fn renewed(&mut self) {
        let vain = self.vain + u32::from(self.is_stalled);
        *self = Self { vain, ..Self::default() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);
    const BEFORE: Duration = Duration::from_millis(19_999);
    const LED: Known = Known { is_in_flight: true, has_leader: true, looks: 3 };

    fn told(looks: u64) -> Known {
        Known { looks, ..LED }
    }

    #[test]
    fn it_is_stalled_once_kafka_was_asked_and_names_a_leader() {
        let start = Instant::now();
        let mut stall = Stall::default();
        assert_eq!(stall.look(start, PATIENCE, told(3)), Verdict::Works);
        assert_eq!(stall.look(start + BEFORE, PATIENCE, told(3)), Verdict::Works);
        assert_eq!(stall.look(start + PATIENCE, PATIENCE, told(3)), Verdict::Ask);
        assert_eq!(stall.look(start + PATIENCE, PATIENCE, told(3)), Verdict::Works, "Kafka has not answered yet");
        assert_eq!(stall.look(start + PATIENCE, PATIENCE, told(4)), Verdict::Stalled);
    }

    #[test]
    fn an_answer_for_a_record_or_a_partition_without_a_leader_begins_it_anew() {
        let start = Instant::now();
        let mut stall = Stall::default();
        stall.look(start, PATIENCE, LED);
        assert_eq!(stall.look(start + PATIENCE, PATIENCE, told(3)), Verdict::Ask);
        stall.answered();
        assert_eq!(stall.look(start + PATIENCE, PATIENCE, told(4)), Verdict::Works);
        assert_eq!(stall.look(start + 2 * PATIENCE, PATIENCE, told(4)), Verdict::Ask);
        let leaderless = Known { has_leader: false, ..told(5) };
        assert_eq!(stall.look(start + 2 * PATIENCE, PATIENCE, leaderless), Verdict::Works);
        assert_eq!(stall.look(start + 2 * PATIENCE + BEFORE, PATIENCE, told(6)), Verdict::Works);
        assert_eq!(stall.look(start + 3 * PATIENCE, PATIENCE, told(6)), Verdict::Ask);
    }

    #[test]
    fn nothing_with_librdkafka_is_no_stall_and_what_is_given_up_by_time_again_and_again_is_one() {
        let start = Instant::now();
        let mut stall = Stall::default();
        let nothing = Known { is_in_flight: false, ..LED };
        assert_eq!(stall.look(start, PATIENCE, nothing), Verdict::Works);
        assert_eq!(stall.look(start + PATIENCE, PATIENCE, LED), Verdict::Works);
        assert_eq!(stall.look(start + PATIENCE + BEFORE, PATIENCE, nothing), Verdict::Works);
        assert_eq!(stall.look(start + 2 * PATIENCE, PATIENCE, LED), Verdict::Ask);
    }

    #[test]
    fn each_producer_that_does_not_help_doubles_the_time() {
        let start = Instant::now();
        let mut stall = Stall::default();
        let stalls_after = |stall: &mut Stall, from: Instant| {
            let times = (0..2000).map(|second| from + Duration::from_secs(second));
            let verdicts = times.zip(0..).map(|(at, looks)| (at, stall.look(at, PATIENCE, told(looks))));
            let stalled = verdicts.into_iter().find(|(_, verdict)| *verdict == Verdict::Stalled);
            stall.renewed();
            stalled.unwrap().0.duration_since(from).as_secs()
        };
        let times: Vec<u64> = (0..7).map(|_| stalls_after(&mut stall, start)).collect();
        assert_eq!(times, [21, 41, 81, 161, 321, 601, 601]);
        // For the sake of another partition.
        let mut bystander = Stall::default();
        bystander.look(start, PATIENCE, LED);
        bystander.renewed();
        assert_eq!(stalls_after(&mut bystander, start), 21);
    }
}
