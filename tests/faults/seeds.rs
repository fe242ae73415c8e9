//! Random faults together, seed after seed.
//!
//! `TIDEGATE_FAULT_SEEDS` says which: `300` is 1 to 300, `17` alone is `17..17`, and 1 to 15 without it.
//! `TIDEGATE_FAULT_STATE` names a file that keeps a line for each seed that is done; those are not played again, so that a
//! long run can be interrupted. `TIDEGATE_FAULT_JOBS` is how many are played side by side, 2 without it.
//! `TIDEGATE_FAULT_DEBUG` has librdkafka log these facilities of its own (its property `debug`).

use crate::scenario::Scenario;
use crate::stage::play;
use std::collections::{BTreeMap, VecDeque};
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Instant;

#[test]
fn whatever_happens_together_nothing_acknowledged_is_lost_misplaced_or_doubled_without_a_cause() {
    let seeds = Seeds::read();
    let queue = Mutex::new(seeds.left());
    std::thread::scope(|scope| {
        for _ in 0..seeds.jobs {
            scope.spawn(|| {
                while let Some(seed) = { queue.lock().unwrap().pop_front() } {
                    seeds.done(seed, &one(seed));
                }
            });
        }
    });
    seeds.sum_up();
}

/// How a seed went: counts, or what is wrong.
type Line = Result<String, String>;

fn one(seed: u64) -> Line {
    let scenario = Scenario::draw(seed);
    let start = Instant::now();
    // A panic is a failure of this seed, and the others go on.
    let played = catch_unwind(AssertUnwindSafe(|| {
        let outcome = play(&scenario);
        let took = start.elapsed().as_secs();
        let text =
            format!("{} broker(s), {} faults, {}, {took} s", scenario.nodes, scenario.faults.len(), outcome.verdict);
        // Within, so that the files of a run that went wrong are kept.
        assert!(outcome.verdict.problems.is_empty(), "{text}\n{}", outcome.verdict.problems.join("\n"));
        text
    }));
    played.map_err(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        format!(
            "seed {seed} failed; play it again with TIDEGATE_FAULT_SEEDS={seed}..{seed} cargo test --test faults whatever\n\
             {scenario}{}",
            text.unwrap_or_default()
        )
    })
}

struct Seeds {
    first: u64,
    last: u64,
    jobs: usize,
    state: Option<PathBuf>,
    lines: Mutex<BTreeMap<u64, Line>>,
}

impl Seeds {
    fn read() -> Self {
        let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        let seeds = variable("TIDEGATE_FAULT_SEEDS").unwrap_or_else(|| "15".to_owned());
        let number =
            |text: &str| text.parse::<u64>().unwrap_or_else(|_| panic!("TIDEGATE_FAULT_SEEDS={seeds}: no number"));
        let (first, last) = match seeds.split_once("..") {
            Some((first, last)) => (number(first), number(last)),
            None => (1, number(&seeds)),
        };
        let jobs =
            variable("TIDEGATE_FAULT_JOBS").map_or(2, |jobs| jobs.parse().expect("TIDEGATE_FAULT_JOBS: a number"));
        let state = variable("TIDEGATE_FAULT_STATE").map(PathBuf::from);
        let known = state.as_ref().and_then(|path| fs::read_to_string(path).ok()).unwrap_or_default();
        let lines = known.lines().filter_map(|line| {
            let (seed, text) = line.split_once(": ")?;
            Some((seed.parse().ok()?, Ok(text.to_owned())))
        });
        Self { first, last, jobs, lines: Mutex::new(lines.collect()), state }
    }

    fn left(&self) -> VecDeque<u64> {
        let lines = self.lines.lock().unwrap();
        (self.first..=self.last).filter(|seed| !lines.contains_key(seed)).collect()
    }

    /// Seeds that failed are not kept, so that the next run plays them again.
    fn done(&self, seed: u64, line: &Line) {
        match line {
            Ok(text) => println!("{seed}: {text}"),
            Err(text) => eprintln!("{text}"),
        }
        if let (Some(path), Ok(text)) = (&self.state, line) {
            let mut file = OpenOptions::new().create(true).append(true).open(path).expect("the state file");
            writeln!(file, "{seed}: {text}").expect("the state file");
        }
        self.lines.lock().unwrap().insert(seed, line.clone());
    }

    fn sum_up(&self) {
        let lines = self.lines.lock().unwrap();
        let failed: Vec<&u64> = lines.iter().filter(|(_, line)| line.is_err()).map(|(seed, _)| seed).collect();
        println!("{} seeds, {} failed", lines.len(), failed.len());
        assert!(failed.is_empty(), "seeds {failed:?} failed: the reasons stand above");
    }
}
