//! Each fault alone, and that it did what it is meant to do.

use crate::bed::Direction;
use crate::fault::Fault;
use crate::scenario::Scenario;
use crate::stage::{Outcome, play};
use std::time::Duration;

/// Plays it, and panics at whatever the checker finds.
pub(crate) fn proven(scenario: &Scenario) -> Outcome {
    let outcome = play(scenario);
    println!("{scenario}{}\n  errors: {:?}", outcome.verdict, outcome.history.errors());
    assert!(outcome.verdict.problems.is_empty(), "{}", outcome.verdict.problems.join("\n"));
    assert!(outcome.verdict.acknowledged > 100, "next to nothing was acknowledged: {}", outcome.verdict);
    outcome
}

/// Longer than any fault here lasts: nothing is refused.
pub(crate) const PATIENT: Duration = Duration::from_secs(20);
/// Shorter than the faults that are to be noticed.
pub(crate) const HASTY: Duration = Duration::from_millis(1500);

/// One fault, in the midst of the load; replies are held until it is over.
fn one(nodes: usize, lasts: u64, fault: Fault) -> Outcome {
    patient(&Scenario::quiet(nodes, PATIENT).with(700, lasts, fault))
}

/// As [`proven`], with nothing refused.
fn patient(scenario: &Scenario) -> Outcome {
    let outcome = proven(scenario);
    assert_eq!(outcome.verdict.refused, 0, "{:?}", outcome.history.errors());
    outcome
}

/// A fault that outlasts the time for which replies are held.
fn refusing(nodes: usize, lasts: u64, fault: Fault) -> Outcome {
    let outcome = proven(&Scenario::quiet(nodes, HASTY).with(700, lasts, fault));
    assert!(outcome.verdict.refused > 0, "nothing was refused: {}", outcome.verdict);
    outcome
}

#[test]
fn without_a_fault_nothing_is_refused_late_or_twice() {
    let verdict = proven(&Scenario::quiet(1, PATIENT)).verdict;
    assert_eq!((verdict.refused, verdict.unknown, verdict.overtaken, verdict.duplicates), (0, 0, 0, 0), "{verdict}");
}

#[test]
fn a_broker_that_is_killed() {
    refusing(1, 3000, Fault::KillBroker { node: 1 });
}

#[test]
fn a_broker_that_restarts_in_order() {
    one(1, 0, Fault::RestartBroker { node: 1 });
}

#[test]
fn a_broker_that_stands_still_for_longer_than_replies_are_held() {
    refusing(1, 5000, Fault::FreezeBroker { node: 1 });
}

#[test]
fn leaders_that_move_between_three_brokers() {
    let scenario = (0..4).fold(Scenario::quiet(3, PATIENT), |scenario, step| {
        scenario.with(500 + 700 * step, 0, Fault::MoveLeaders { topic: 0 })
    });
    patient(&Scenario { lasts: Duration::from_secs(5), ..scenario });
}

#[test]
fn too_few_replicas_in_sync() {
    refusing(3, 6000, Fault::TooFewReplicas { topic: 0, node: 2 });
}

#[test]
fn a_topic_that_is_deleted_and_created_again() {
    one(1, 500, Fault::RecreateTopic { topic: 0 });
}

#[test]
fn a_right_that_is_revoked_and_given_back() {
    let outcome = refusing(1, 1500, Fault::RevokeRight { topic: 0 });
    let errors = outcome.history.errors();
    assert!(errors.iter().any(|error| error.contains("not let")), "{errors:?}");
}

#[test]
fn records_too_large_at_the_broker_only() {
    let outcome = refusing(1, 1500, Fault::SmallBatches { topic: 0 });
    let errors = outcome.history.errors();
    assert!(errors.iter().any(|error| error.contains("max.message.bytes")), "{errors:?}");
}

#[test]
fn connections_that_are_cut_before_within_and_after_requests() {
    let directions = [Direction::ToServer, Direction::ToClient];
    let cuts = directions.into_iter().flat_map(|direction| [0, 3, 90, 2500].map(|bytes| (direction, bytes)));
    let scenario = cuts.enumerate().fold(Scenario::quiet(1, PATIENT), |scenario, (step, (direction, bytes))| {
        let at = 400 + 300 * u64::try_from(step).expect("a few");
        scenario.with(at, 0, Fault::CutWithin { node: 1, direction, bytes }).with(at + 150, 0, Fault::Cut { node: 1 })
    });
    patient(&scenario);
}

#[test]
fn a_broker_out_of_reach() {
    refusing(1, 3000, Fault::Unreachable { node: 1 });
}

#[test]
fn latency() {
    one(1, 3000, Fault::Latency { node: 1, added: Duration::from_millis(300) });
}

#[test]
fn requests_that_are_lost_on_their_way() {
    refusing(1, 4000, Fault::OneWayLoss { node: 1, direction: Direction::ToServer });
}

#[test]
fn answers_that_are_lost_on_their_way() {
    refusing(1, 4000, Fault::OneWayLoss { node: 1, direction: Direction::ToClient });
}

#[test]
fn tidegate_standing_still() {
    one(1, 4000, Fault::FreezeTidegate);
}

#[test]
fn tidegate_asked_to_end_under_load() {
    let outcome = one(1, 0, Fault::EndTidegate);
    assert!(outcome.history.closed > 0);
}

#[test]
fn tidegate_killed_under_load() {
    let outcome = one(1, 0, Fault::KillTidegate);
    assert!(outcome.history.closed > 0);
}

#[test]
fn tidegate_out_of_file_descriptors_while_its_broker_goes_away() {
    let scenario =
        Scenario::quiet(1, HASTY).with(500, 3000, Fault::NoFiles).with(1000, 1000, Fault::KillBroker { node: 1 });
    let scenario = scenario.with(2500, 0, Fault::Cut { node: 1 });
    assert!(proven(&scenario).verdict.refused > 0);
}

#[test]
fn a_wall_clock_that_jumps_half_an_hour_forward_and_back() {
    let scenario = Scenario::quiet(1, PATIENT).with(500, 1000, Fault::ClockJump { seconds: 1800 });
    patient(&scenario.with(1800, 1000, Fault::ClockJump { seconds: -1800 }));
}

/// Kafka takes no record that is more than an hour ahead of its own clock.
#[test]
fn a_wall_clock_a_day_ahead_is_refused_by_kafka_until_it_is_right_again() {
    let outcome = refusing(1, 1000, Fault::ClockJump { seconds: 86_400 });
    let errors = outcome.history.errors();
    assert!(errors.iter().all(|error| error.contains("Kafka refused it")), "{errors:?}");
}

/// librdkafka's threads must not sleep for as long as the clock was set back (its issue 2145).
#[test]
fn a_wall_clock_set_back_by_most_of_an_hour_while_the_broker_is_away() {
    // Set forward first, so that it is set back when the fault is over, and stays so.
    let scenario = Scenario::quiet(1, HASTY).with(500, 1500, Fault::ClockJump { seconds: 3000 });
    proven(&scenario.with(1000, 2500, Fault::KillBroker { node: 1 }));
}

/// The schedule of librdkafka's issue 4134, which reports success for records that are not there: most brokers of the
/// cluster stand still for longer than sessions and messages last, and go on, again and again.
fn frozen_and_thawed(scenario: Scenario) -> Outcome {
    let rounds = std::env::var("TIDEGATE_FAULT_ROUNDS").map_or(2, |rounds| rounds.parse().expect("a number"));
    let scenario =
        (0..rounds).fold(scenario, |scenario, round| scenario.with(500 + 8500 * round, 5000, Fault::FreezeMost));
    proven(&scenario)
}

#[test]
fn most_brokers_standing_still_for_longer_than_every_timeout_again_and_again() {
    assert!(frozen_and_thawed(Scenario::quiet(3, HASTY)).verdict.refused > 0);
}

#[test]
fn most_brokers_standing_still_again_and_again_with_a_spool() {
    assert_eq!(frozen_and_thawed(Scenario::quiet(3, PATIENT).spooled("")).verdict.refused, 0);
}
