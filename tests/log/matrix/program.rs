//! Real programs: how each is started, and what it is asked to do.
//!
//! A program prints `version TEXT`, then a line for each call: `CALL ok`, `CALL absent` where it has no such thing, or `CALL error: …`.
//! Before the last call it prints `restart` and waits for a line on its standard input, which it gets when Tidegate was
//! stopped and started again. `tests/clients/README.md` says what each call sends.

use super::table::{CALLS, Cell, Row};
use crate::bed::process::Process;
use crate::bed::{Consumed, Installed, Tidegate, WorkDir, consume, poll, source, unique};
use crate::support::SOON;
use std::ffi::OsString;
use std::fs::File;
use std::io::Write as _;
use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

/// A program may be slow to start, and patient after a restart.
const DEADLINE: Duration = Duration::from_secs(120);

/// Where a sentinel is asked for by a port that is nobody else's.
pub(super) const OWN_PORT: &str = "sentinel, port of its own";

/// A client, or an appender through its client.
pub(super) struct Program {
    pub(super) name: &'static str,
    /// `plain`, `cluster`, `sentinel`, or [`OWN_PORT`].
    pub(super) mode: &'static str,
    /// What it sends is the value itself; else an appender's layout around it.
    pub(super) exact: bool,
    pub(super) command: Vec<OsString>,
}

impl Program {
    pub(super) fn new(name: &'static str, mode: &'static str, exact: bool, command: Vec<OsString>) -> Self {
        Self { name, mode, exact, command }
    }

    /// Lets it make its calls against a Tidegate of its own, and looks for every value in Kafka.
    pub(super) fn run(&self, setup: impl FnOnce(&str) -> Tidegate, bootstrap: &str) -> Row {
        let key = unique("matrix");
        let mut tidegate = setup(if self.mode == "plain" { "off" } else { "self" });
        let directory = WorkDir::new("matrix");
        let input = directory.path().join("input");
        let made = Command::new("mkfifo").arg(&input).status().expect("mkfifo");
        assert!(made.success());
        // Opened for both, so that neither side waits for the other to open.
        let mut word = File::options().read(true).write(true).open(&input).expect("a pipe");
        let (program, fixed) = self.command.split_first().expect("a program");
        let address = if self.mode == OWN_PORT { sentinel_address(&tidegate) } else { tidegate.redis_addr() };
        let mut command = Command::new(program);
        command.args(fixed).args([address.ip().to_string(), address.port().to_string(), key.clone()]);
        let mut process = Process::start_with_input(&command, directory.path(), "program", &input);
        let said = |process: &Process| String::from_utf8_lossy(&process.stdout()).into_owned();
        let waits = poll(DEADLINE, || {
            (process.exited().is_some() || said(&process).lines().any(|line| line == "restart")).then_some(())
        });
        if waits.is_some() && process.exited().is_none() {
            tidegate.sigterm();
            tidegate.wait_exit(SOON);
            tidegate.restart();
            writeln!(word, "go on").expect("a pipe");
            let _ = poll(DEADLINE, || process.exited());
        }
        let told = said(&process);
        process.kill9();
        let errors = process.stderr();
        let mut row = Row::real(self.name, self.mode, &told, &errors);
        let wanted: Vec<(usize, String)> = self.wanted(&row);
        let found = |records: &[Consumed], text: &str| {
            records.iter().any(|record| match self.exact {
                true => record.value == value(text),
                false => String::from_utf8_lossy(&record.value).contains(text),
            })
        };
        let mut records = Vec::new();
        let all = poll(SOON, || {
            records = consume(bootstrap, &format!("logs.{key}"));
            wanted.iter().all(|(_, text)| found(&records, text)).then_some(())
        });
        if all.is_none() {
            for (call, text) in wanted.iter().filter(|(_, text)| !found(&records, text)) {
                row.cells[*call] = Cell::Wrong(format!("{text} is not in Kafka"));
            }
        }
        row
    }

    /// The values of the calls that went well, each with the place of its call.
    fn wanted(&self, row: &Row) -> Vec<(usize, String)> {
        let counts = [1, 0, 10, 5, 1];
        let mut wanted = Vec::new();
        for (place, (call, count)) in CALLS.iter().zip(counts).enumerate() {
            if row.cells[place] == Cell::Good {
                wanted.extend((0..count).map(|number| (place, format!("{call}-{number}"))));
            }
        }
        wanted
    }
}

/// The second of its listeners.
fn sentinel_address(tidegate: &Tidegate) -> SocketAddr {
    let text = std::fs::read_to_string(tidegate.directory().join("tidegate.toml")).expect("a configuration");
    let config: toml::Table = text.parse().expect("TOML");
    let listeners = config["log"]["listen"].as_array().expect("listeners");
    listeners[1].as_str().and_then(|address| address.parse().ok()).expect("an address")
}

/// What clients send; appenders send the text alone.
fn value(text: &str) -> Vec<u8> {
    format!("{text} é \"q\" \\ \r\n\0.").into_bytes()
}

/// The programs that `make test` runs too.
pub(super) fn core(installed: &Installed) -> Vec<Program> {
    let python = |interpreter: OsString, which: &str, mode: &str| -> Vec<OsString> {
        vec![interpreter, source("clients/python/calls.py").into(), which.into(), mode.into()]
    };
    let newest = || -> OsString { installed.home("python").join("venv/bin/python").into() };
    let debian = || -> OsString { "/usr/bin/python3".into() };
    let go = |library: &str, mode: &str| vec![installed.home("go").join("calls").into(), library.into(), mode.into()];
    let node = |package: &str, mode: &str| {
        vec!["node".into(), installed.home("node").join("calls.js").into(), package.into(), mode.into()]
    };
    vec![
        Program::new("redis-py", "plain", true, python(newest(), "sync", "plain")),
        Program::new("redis-py", "cluster", true, python(newest(), "sync", "cluster")),
        Program::new("redis-py", "sentinel", true, python(newest(), "sync", "sentinel")),
        Program::new("redis-py asyncio", "plain", true, python(newest(), "asyncio", "plain")),
        Program::new("redis-py 4", "plain", true, python(debian(), "sync", "plain")),
        Program::new("redis-py 4 asyncio", "plain", true, python(debian(), "asyncio", "plain")),
        Program::new("rlog (Python logging)", "plain", false, python(newest(), "handler", "plain")),
        Program::new("rlog, publishing (Python logging)", "plain", false, python(newest(), "publisher", "plain")),
        Program::new("go-redis", "plain", true, go("go-redis", "plain")),
        Program::new("go-redis", "cluster", true, go("go-redis", "cluster")),
        Program::new("go-redis", "sentinel", true, go("go-redis", "sentinel")),
        Program::new("rueidis", "plain", true, go("rueidis", "plain")),
        Program::new("rueidis", "cluster", true, go("rueidis", "cluster")),
        Program::new("redigo", "plain", true, go("redigo", "plain")),
        Program::new("ioredis 5", "plain", true, node("ioredis5", "plain")),
        Program::new("ioredis", "plain", true, node("ioredis", "plain")),
        Program::new("ioredis", "cluster", true, node("ioredis", "cluster")),
        Program::new("ioredis", "sentinel", true, node("ioredis", "sentinel")),
        Program::new("node-redis 4", "plain", true, node("redis4", "plain")),
        Program::new("node-redis 5", "plain", true, node("redis5", "plain")),
        Program::new("node-redis", "plain", true, node("redis6", "plain")),
        Program::new("node-redis", "cluster", true, node("redis6", "cluster")),
        Program::new("winston-redis", "plain", false, node("winston-redis", "plain")),
    ]
}

/// The programs that only `make matrix` runs: each needs much to be installed or built.
pub(super) fn others(installed: &Installed) -> Vec<Program> {
    let python = |which: &str, mode: &str| -> Vec<OsString> {
        let (interpreter, which) = match which.strip_prefix("debian ") {
            Some(which) => ("/usr/bin/python3".into(), which),
            None => (installed.home("python").join("venv/bin/python"), which),
        };
        vec![interpreter.into(), source("clients/python/calls.py").into(), which.into(), mode.into()]
    };
    let go = |library: &str, mode: &str| vec![installed.home("go").join("calls").into(), library.into(), mode.into()];
    let node = |package: &str, mode: &str| {
        vec!["node".into(), installed.home("node").join("calls.js").into(), package.into(), mode.into()]
    };
    let php = |library: &str, mode: &str| {
        vec!["php".into(), source("clients/php/calls.php").into(), library.into(), mode.into()]
    };
    let ruby = |mode: &str| vec!["ruby".into(), source("clients/ruby/calls.rb").into(), mode.into()];
    let java = |component: &str, mode: &str| {
        let home = installed.home(component);
        let path = format!("{0}/classes:{0}/lib/*", home.display());
        let flags = ["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", &path, "Calls", mode];
        std::iter::once("java").chain(flags).map(OsString::from).collect::<Vec<_>>()
    };
    let rust =
        |library: &str, mode: &str| vec![installed.home("rust").join("calls").into(), library.into(), mode.into()];
    vec![
        Program::new("redis-py asyncio", "cluster", true, python("asyncio", "cluster")),
        Program::new("redis-py asyncio", "sentinel", true, python("asyncio", "sentinel")),
        Program::new("redis-py 4", "cluster", true, python("debian sync", "cluster")),
        Program::new("redis-py 4", "sentinel", true, python("debian sync", "sentinel")),
        Program::new("redis-py 4 asyncio", "cluster", true, python("debian asyncio", "cluster")),
        Program::new("redis-py 4 asyncio", "sentinel", true, python("debian asyncio", "sentinel")),
        Program::new("rueidis", "sentinel", true, go("rueidis", "sentinel")),
        Program::new("ioredis 5", "cluster", true, node("ioredis5", "cluster")),
        Program::new("ioredis 5", "sentinel", true, node("ioredis5", "sentinel")),
        Program::new("node-redis 4", "cluster", true, node("redis4", "cluster")),
        Program::new("node-redis 5", "cluster", true, node("redis5", "cluster")),
        Program::new("node-redis 5", "sentinel", true, node("redis5", "sentinel")),
        Program::new("node-redis", "sentinel", true, node("redis6", "sentinel")),
        Program::new("phpredis", "plain", true, php("phpredis", "plain")),
        Program::new("phpredis", "cluster", true, php("phpredis", "cluster")),
        Program::new("phpredis", "sentinel", true, php("phpredis", "sentinel")),
        Program::new("predis", "plain", true, php("predis", "plain")),
        Program::new("predis", "cluster", true, php("predis", "cluster")),
        Program::new("predis", "sentinel", true, php("predis", "sentinel")),
        Program::new("Monolog", "plain", false, php("monolog", "plain")),
        Program::new("Monolog, publishing", "plain", false, php("publisher", "plain")),
        Program::new("redis-rb", "plain", true, ruby("plain")),
        Program::new("redis-rb", "cluster", true, ruby("cluster")),
        Program::new("redis-rb", "sentinel", true, ruby("sentinel")),
        Program::new("hiredis", "plain", true, vec![installed.home("c").join("calls").into()]),
        Program::new("Jedis", "plain", true, java("jedis", "plain")),
        Program::new("Jedis", "cluster", true, java("jedis", "cluster")),
        Program::new("Jedis", "sentinel", true, java("jedis", "sentinel")),
        Program::new("Redisson", "plain", true, java("redisson", "plain")),
        Program::new("Redisson", "cluster", true, java("redisson", "cluster")),
        Program::new("Redisson", "sentinel", true, java("redisson", "sentinel")),
        Program::new("Spring Data Redis (Jedis)", "plain", true, java("spring", "plain")),
        Program::new("Spring Data Redis (Jedis)", "cluster", true, java("spring", "cluster")),
        Program::new("Spring Data Redis (Jedis)", "sentinel", true, java("spring", "sentinel")),
        Program::new("logback-redis-appender", "plain", false, java("logback", "plain")),
        Program::new("redis-rs", "plain", true, rust("redis-rs", "plain")),
        Program::new("redis-rs", "cluster", true, rust("redis-rs", "cluster")),
        Program::new("redis-rs", OWN_PORT, true, rust("redis-rs", "sentinel")),
        Program::new("fred", "plain", true, rust("fred", "plain")),
        Program::new("fred", "cluster", true, rust("fred", "cluster")),
        Program::new("fred", "sentinel", true, rust("fred", "sentinel")),
    ]
}
