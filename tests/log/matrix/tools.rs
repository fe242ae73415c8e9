//! Redis's own programs: redis-cli and redis-benchmark.

use super::table::{Cell, Row};
use crate::bed::process::Process;
use crate::bed::{Tidegate, WorkDir, free_port, unique};
use crate::support::{SOON, Setup, consumed};
use std::process::Command;

/// Both, each with what it has.
pub(super) fn run(start: fn(&str) -> Tidegate) -> Vec<Row> {
    let mut tidegate = start("self");
    let mut rows = vec![redis_cli(&mut tidegate, &[], "plain"), redis_cli(&mut tidegate, &["-c"], "cluster")];
    rows.push(redis_benchmark(&tidegate, &[], "plain"));
    rows.push(redis_benchmark(&of_two_nodes(), &["--cluster"], "cluster"));
    rows
}

/// redis-benchmark takes no cluster of one node: both are this one.
fn of_two_nodes() -> Tidegate {
    let nodes = [(); 2].map(|()| format!("\"127.0.0.1:{}\"", free_port())).join(", ");
    let route = "key = \"*\"\ncreate_topic = { partitions = 1, replication = 1 }";
    Setup::shared().listen(&nodes).log(&format!("cluster = [{nodes}]")).route(route).start()
}

fn said(program: &str, args: &[&str], input: &str) -> Result<String, String> {
    let directory = WorkDir::new(program);
    let file = directory.write("input", input);
    let mut command = Command::new(program);
    command.args(args);
    let mut process = Process::start_with_input(&command, directory.path(), program, &file);
    let status = process.wait(SOON * 3);
    let (out, errors) = (String::from_utf8_lossy(&process.stdout()).into_owned(), process.stderr());
    if status.success() { Ok(out) } else { Err(format!("{status}: {errors} {out}")) }
}

fn version(program: &str) -> String {
    let text = said(program, &["--version"], "").unwrap_or_default();
    text.split_whitespace().nth(1).unwrap_or("?").to_owned()
}

/// `Good` where it said what was expected.
fn cell(said: Result<String, String>, expected: impl Fn(&str) -> bool) -> Cell {
    match said {
        Ok(text) if expected(&text) => Cell::Good,
        Ok(text) => Cell::Wrong(text),
        Err(why) => Cell::Wrong(why),
    }
}

fn redis_cli(tidegate: &mut Tidegate, flags: &[&str], mode: &str) -> Row {
    let key = unique("matrix-cli");
    let port = tidegate.redis_addr().port().to_string();
    let cli = |args: &[&str], input: &str| said("redis-cli", &[&["-p", &port], flags, args].concat(), input);
    let mut cells = vec![
        cell(cli(&["RPUSH", &key, "ordinary"], ""), |text| text == "1\n"),
        cell(cli(&["PING"], ""), |text| text == "PONG\n"),
    ];
    let piped: String = (0..10).map(|number| format!("RPUSH {key} pipeline-{number}\r\n")).collect();
    cells.push(cell(cli(&["--pipe"], &piped), |text| text.contains("errors: 0, replies: 10")));
    let lines = format!("MULTI\nRPUSH {key} transaction-0\nRPUSH {key} transaction-1\nEXEC\n");
    cells.push(cell(cli(&[], &lines), |text| text == "OK\nQUEUED\nQUEUED\n1\n1\n"));
    tidegate.sigterm();
    tidegate.wait_exit(SOON);
    tidegate.restart();
    cells.push(cell(cli(&["RPUSH", &key, "reconnect"], ""), |text| text == "1\n"));
    let texts: Vec<Vec<u8>> = consumed(&format!("logs.{key}"), 14).into_iter().map(|record| record.value).collect();
    assert_eq!((texts[0].as_slice(), texts[13].as_slice()), (&b"ordinary"[..], &b"reconnect"[..]));
    Row { program: "redis-cli".into(), version: version("redis-cli"), mode: mode.into(), real: true, cells }
}

/// It makes its own values, and exits at the first error.
fn redis_benchmark(tidegate: &Tidegate, flags: &[&str], mode: &str) -> Row {
    let port = tidegate.redis_addr().port().to_string();
    let fixed = [&["-p", &port, "-q", "-c", "10", "-n", "960"], flags].concat();
    let bench = |more: &[&str]| said("redis-benchmark", &[fixed.as_slice(), more].concat(), "");
    let good = |text: &str| text.contains("requests per second") && !text.contains("Error");
    let key = unique("matrix-benchmark");
    let cells = vec![
        cell(bench(&["RPUSH", &key, "ordinary"]), good),
        cell(bench(&["-t", "ping_inline,ping_mbulk"]), good),
        cell(bench(&["-P", "16", "RPUSH", &key, "pipeline"]), good),
        Cell::Absent,
        Cell::Absent,
    ];
    let count = consumed(&format!("logs.{key}"), 1920).len();
    assert_eq!(count, 1920);
    Row { program: "redis-benchmark".into(), version: version("redis-benchmark"), mode: mode.into(), real: true, cells }
}
