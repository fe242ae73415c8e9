//! Tidegate killed at every step that the spool takes on the disk: opening, writing, rotating, the checkpoint, deleting.
//!
//! A first run without a fault tells the steps. Then one run for each step and way to die there, the same acts again: the
//! shim kills the process before the step, after it or, where it writes, when half is written. The process is started
//! again, drains, and what it had acknowledged must be in Kafka.

use crate::bed::Kafka;
use crate::lone::{Dead, KafkaIs, Lone};
use crate::shim::{ALL, Action};
use std::collections::VecDeque;
use std::sync::Mutex;

/// How many runs go side by side: they wait most of the time.
const JOBS: usize = 4;

#[test]
fn killed_at_any_step_on_the_disk_it_loses_nothing_acknowledged() {
    let kafka = Kafka::start();
    let mut whole = spawn(&kafka, |_| {});
    live(&mut whole).expect("nobody kills it");
    let steps = whole.shim.trace();
    println!("{} steps:", steps.len());
    steps.iter().enumerate().for_each(|(place, step)| println!("  {:>3} {step}", place + 1));
    // What the acts are meant to bring about.
    for step in ["create segments/", "sync segments", "rename checkpoint.new", "remove segments/", "write format"] {
        assert!(steps.iter().any(|seen| seen.starts_with(step)), "no {step} among the steps");
    }
    assert_eq!(whole.verify().problems, [""; 0]);
    drop(whole);

    let deaths: VecDeque<(u64, Action)> =
        (1..).zip(&steps).flat_map(|(number, step)| deaths_at(number, step)).collect();
    println!("{} ways to die", deaths.len());
    let deaths = Mutex::new(deaths);
    let failures = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..JOBS {
            scope.spawn(|| {
                while let Some((number, action)) = { deaths.lock().unwrap().pop_front() } {
                    if let Err(why) = die(&kafka, number, action) {
                        let step = &steps[usize::try_from(number - 1).expect("a few")];
                        failures.lock().unwrap().push(format!("{action:?} step {number}, {step}: {why}"));
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

fn deaths_at(number: u64, step: &str) -> Vec<(u64, Action)> {
    let mut deaths = vec![(number, Action::KillBefore), (number, Action::KillAfter)];
    if step.starts_with("write") {
        deaths.push((number, Action::KillWithin));
    }
    deaths
}

fn spawn(kafka: &Kafka, arm: impl FnOnce(&crate::shim::Shim)) -> Lone<'_> {
    Lone::spawn(kafka, KafkaIs::Away, "acknowledge = \"spool\"", "", |_, shim| arm(shim))
}

/// Records come while Kafka is away; it ends in order; it starts again with Kafka there, drains, and tidies up.
fn live(lone: &mut Lone<'_>) -> Result<(), Dead> {
    for size in [100, 2000, 100_000, 100] {
        lone.push(size)?;
    }
    lone.end()?;
    lone.restart(KafkaIs::There);
    for size in [100, 3000] {
        lone.push(size)?;
    }
    lone.drain()?;
    // The segments of the first life are done with.
    lone.until(|lone| segments(lone) == 1)?;
    lone.push(100)?;
    lone.drain()?;
    lone.end()
}

fn segments(lone: &Lone<'_>) -> usize {
    let entries = std::fs::read_dir(lone.spool().join("segments")).into_iter().flatten().flatten();
    entries.filter(|entry| entry.path().extension().is_some_and(|suffix| suffix == "seg")).count()
}

/// One run that ends at a step, and what came of it.
fn die(kafka: &Kafka, number: u64, action: Action) -> Result<(), String> {
    let mut lone = spawn(kafka, |shim| shim.arm(action, ALL, number, Some(1)));
    let lived = live(&mut lone);
    let fired = lone.shim.fired();
    lone.shim.disarm();
    match lived {
        Err(Dead) if fired == 0 => return Err(format!("it ended by itself: {}", lone.tidegate.log())),
        // Groups of records and checkpoints fall a little differently each time: there may be a step less.
        Ok(()) if fired == 0 => {}
        Ok(()) => return Err("it was killed and lived on".to_owned()),
        Err(Dead) => {
            lone.tidegate.kill9();
            lone.restart(KafkaIs::There);
            let gone_on = lone.push(100).and_then(|acknowledged| lone.drain().map(|()| acknowledged));
            match gone_on {
                Ok(true) => lone.end().map_err(|Dead| format!("no end in order: {}", lone.tidegate.log()))?,
                Ok(false) => return Err(format!("after the restart: {:?}", lone.last_error())),
                Err(Dead) => return Err(format!("dead after the restart: {}", lone.tidegate.log())),
            }
        }
    }
    let verdict = lone.verify();
    if verdict.problems.is_empty() { Ok(()) } else { Err(format!("{verdict}\n{}", verdict.problems.join("\n"))) }
}
