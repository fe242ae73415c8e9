//! The client matrix: real programs and replayed ones, each making its calls, its values looked for in Kafka.
//!
//! `make test` runs the core of it. `make matrix` sets `TIDEGATE_MATRIX=all`, which installs and runs the others too, and
//! writes `tests/clients/MATRIX.md`.

mod program;
mod replay;
mod table;
mod tools;

use crate::bed::{Kafka, Tidegate, free_port, require, require_all, source};
use crate::support::Setup;
use program::Program;
use std::sync::Mutex;
use table::{Row, written};

/// Programs at once: some of them are a JVM.
const AT_ONCE: usize = 3;

/// A Tidegate as everybody would start it, but for what CLUSTER and SENTINEL answer.
fn start(cluster: &str) -> Tidegate {
    let [port, sentinel_port] = [free_port(), free_port()];
    let setup = Setup::shared().listen(&format!("\"127.0.0.1:{port}\", \"127.0.0.1:{sentinel_port}\""));
    let setup = if cluster == "off" { setup } else { setup.log(&format!("sentinel_port = {sentinel_port}")) };
    setup
        .log(&format!("cluster = {cluster:?}"))
        .route(
            "key = \"*\"\ncreate_topic = { partitions = 1, replication = 1 }\n\
             accept = [\"list\", \"stream\", \"publish\", \"set\", \"hash\", \"sorted-set\"]",
        )
        .start()
}

fn run(programs: Vec<Program>) -> Vec<Row> {
    let bootstrap = Kafka::shared().bootstrap();
    let waiting = Mutex::new(programs.into_iter().enumerate());
    let rows = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some((place, program)) = { waiting.lock().unwrap().next() } {
                    let row = program.run(start, &bootstrap);
                    rows.lock().unwrap().push((place, row));
                }
            });
        }
    });
    let mut rows = rows.into_inner().unwrap();
    rows.sort_by_key(|(place, _)| *place);
    rows.into_iter().map(|(_, row)| row).collect()
}

#[test]
fn every_client_makes_its_calls_and_every_value_is_in_kafka() {
    let all = std::env::var("TIDEGATE_MATRIX").is_ok_and(|what| what == "all");
    let mut programs = program::core(if all { require_all() } else { require() });
    if all {
        programs.extend(program::others(require_all()));
    }
    let mut rows = run(programs);
    rows.extend(tools::run(start));
    rows.extend(replay::run(start));
    rows.iter_mut().for_each(Row::excuse);
    let text = written(&rows);
    if all {
        rows.sort_by(|one, other| (&one.program, &one.mode).cmp(&(&other.program, &other.mode)));
        std::fs::write(source("clients/MATRIX.md"), written(&rows)).unwrap();
    }
    assert!(rows.iter().all(Row::is_good), "{text}");
}
