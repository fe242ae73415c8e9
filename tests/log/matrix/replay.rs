//! Programs that cannot be had here: what they send, by their documentation and source, byte for byte, and what they need
//! to hear.

use super::table::{Cell, Row};
use crate::bed::resp::encode;
use crate::bed::{Kafka, Tidegate, consume_at_least, unique};
use crate::support::SOON;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use tidegate::intake::commands::glob;

/// Commands sent at once, each with a glob over its reply.
type Step = Vec<(Vec<String>, &'static str)>;

/// A program: what it sends when it connects, and in each of its calls.
struct Replayed {
    program: &'static str,
    version: &'static str,
    connect: Vec<Step>,
    ordinary: Step,
    health: Step,
    pipeline: Step,
    transaction: Step,
    /// Values that one round of the calls brings, and that a reconnect brings.
    values: [usize; 2],
}

/// All of them.
pub(super) fn run(start: fn(&str) -> Tidegate) -> Vec<Row> {
    let mut tidegate = start("off");
    let keys: Vec<String> = (0..9).map(|_| unique("matrix-replay")).collect();
    let programs = programs(&keys);
    let mut rows: Vec<Row> = programs.iter().map(|program| program.calls(tidegate.redis_addr())).collect();
    tidegate.sigterm();
    tidegate.wait_exit(SOON);
    tidegate.restart();
    for ((program, row), key) in programs.iter().zip(&mut rows).zip(&keys) {
        row.cells.push(program.reconnect(tidegate.redis_addr()));
        let wanted = program.values.iter().sum();
        let records = consume_at_least(&Kafka::shared().bootstrap(), &format!("logs.{key}"), wanted, SOON);
        assert_eq!(records.len(), wanted, "{}", program.program);
    }
    rows
}

fn one(line: &str, reply: &'static str) -> (Vec<String>, &'static str) {
    (line.split(' ').map(str::to_owned).collect(), reply)
}

fn push(command: &str, key: &str, values: &[&str], reply: &'static str) -> (Vec<String>, &'static str) {
    ([command, key].iter().chain(values).map(|word| (*word).to_owned()).collect(), reply)
}

fn transaction(commands: Step, replies: &'static str) -> Step {
    let mut step = vec![one("MULTI", "+OK")];
    step.extend(commands.into_iter().map(|(words, _)| (words, "+QUEUED")));
    step.push(one("EXEC", replies));
    step
}

fn programs(keys: &[String]) -> Vec<Replayed> {
    let [serilog, nlog, exchange, filebeat, logstash, fluent_bit, fluentd, vector, log4j] = keys else {
        panic!("a key for each")
    };
    let event = r#"{"@timestamp":"2026-01-01T00:00:00.000Z","message":"line é"}"#;
    vec![
        Replayed {
            program: "Serilog.Sinks.Redis (StackExchange.Redis)",
            version: "2.8",
            connect: exchange_connects(),
            ordinary: vec![push("RPUSH", serilog, &[event, event, event], ":3")],
            health: vec![one("PING", "+PONG")],
            pipeline: vec![],
            transaction: vec![],
            values: [3, 3],
        },
        Replayed {
            program: "NLog.Redis (StackExchange.Redis)",
            version: "2.8",
            connect: exchange_connects(),
            ordinary: vec![push("LPUSH", nlog, &[event], ":1")],
            health: vec![one("PING", "+PONG")],
            pipeline: (0..10).map(|_| push("PUBLISH", nlog, &[event], ":1")).collect(),
            transaction: vec![],
            values: [11, 1],
        },
        Replayed {
            program: "StackExchange.Redis",
            version: "2.8",
            connect: exchange_connects(),
            ordinary: vec![push("RPUSH", exchange, &[event], ":1")],
            health: vec![one("PING", "+PONG"), one("ECHO 0123456789abcdef", "$16 0123456789abcdef")],
            pipeline: (0..10).map(|_| push("RPUSH", exchange, &[event], ":1")).collect(),
            transaction: transaction(
                vec![push("RPUSH", exchange, &[event], ""), push("LPUSH", exchange, &[event], "")],
                "?2 :1 :1",
            ),
            values: [13, 1],
        },
        Replayed {
            program: "Filebeat",
            version: "8",
            // It reads the version out of INFO with redis_version:(\d+).(\d+).
            connect: vec![vec![one("PING", "+PONG")], vec![one("INFO", "$*redis_version:7.*")]],
            ordinary: vec![push("RPUSH", filebeat, &[event; 100], ":100")],
            health: vec![one("PING", "+PONG")],
            pipeline: (0..10).map(|_| push("RPUSH", filebeat, &[event], ":1")).collect(),
            transaction: vec![],
            values: [110, 100],
        },
        Replayed {
            program: "Logstash output-redis",
            version: "5",
            connect: vec![],
            ordinary: vec![push("RPUSH", logstash, &[event; 50], ":50")],
            health: vec![one("PING", "+PONG"), push("LLEN", logstash, &[], ":0")],
            pipeline: vec![push("PUBLISH", logstash, &[event], ":1")],
            transaction: vec![],
            values: [51, 50],
        },
        Replayed {
            program: "Fluent Bit (fluent-bit-go-redis-output)",
            version: "2",
            connect: vec![],
            ordinary: vec![push("RPUSH", fluent_bit, &[event], ":1")],
            health: vec![],
            pipeline: (0..10).map(|_| push("RPUSH", fluent_bit, &[event], ":1")).collect(),
            transaction: vec![],
            values: [11, 1],
        },
        Replayed {
            program: "fluentd (fluent-plugin-redis, -redis-store)",
            version: "0.3, 0.2",
            connect: vec![],
            ordinary: vec![
                push("RPUSH", fluentd, &[event], ":1"),
                push("EXPIRE", fluentd, &["3600"], ":1"),
                trim(fluentd),
            ],
            health: vec![],
            pipeline: (0..10).map(|_| push("RPUSH", fluentd, &[event], ":1")).collect(),
            transaction: transaction(
                vec![
                    push("HMSET", fluentd, &["message", "line", "level", "info"], ""),
                    push("EXPIRE", fluentd, &["60"], ""),
                ],
                "?2 +OK :1",
            ),
            values: [12, 1],
        },
        Replayed {
            program: "Vector",
            version: "0.4x",
            connect: vec![vec![
                one("CLIENT SETINFO LIB-NAME redis-rs", "+OK"),
                one("CLIENT SETINFO LIB-VER 0.24.0", "+OK"),
            ]],
            ordinary: transaction(vec![push("RPUSH", vector, &[event], "")], "?1 :1"),
            health: vec![one("PING", "+PONG")],
            pipeline: vec![],
            transaction: transaction(
                (0..5).map(|_| push("LPUSH", vector, &[event], "")).collect(),
                "?5 :1 :1 :1 :1 :1",
            ),
            values: [6, 1],
        },
        Replayed {
            program: "log4j2-redis-appender (Jedis)",
            version: "0.16",
            connect: vec![],
            // It gathers a batch, and pushes it at once.
            ordinary: vec![push("RPUSH", log4j, &[event; 20], ":20")],
            health: vec![one("PING", "+PONG")],
            pipeline: vec![],
            transaction: vec![],
            values: [20, 20],
        },
    ]
}

/// Its handshake: what may be an error is one in Redis too, but for ECHO, which it compares.
fn exchange_connects() -> Vec<Step> {
    vec![
        vec![one("HELLO 3", "%7 *proto :3 *")],
        vec![
            one("CLIENT SETNAME web-1", "+OK"),
            one("CLIENT SETINFO lib-name SE.Redis", "+OK"),
            one("CLIENT SETINFO lib-ver 2.8.16", "+OK"),
            one("CLIENT ID", ":*"),
        ],
        vec![
            one("CONFIG GET timeout", "%1 $7 timeout $1 0"),
            one("CONFIG GET slave-read-only", "%1 $15 slave-read-only $3 yes"),
            one("CONFIG GET databases", "%1 $9 databases $2 16"),
            one("SENTINEL MASTERS", "-ERR unknown command 'SENTINEL'*"),
            one("INFO replication", "=*role:master*"),
            one("INFO server", "=*redis_version:7.*"),
            one("CLUSTER NODES", "-ERR This instance has cluster support disabled"),
        ],
        vec![one("GET __Booksleeve_TieBreak", "_"), one("ECHO 0123456789abcdef", "$16 0123456789abcdef")],
    ]
}

/// The script with which fluent-plugin-redis-store caps its list.
fn trim(key: &str) -> (Vec<String>, &'static str) {
    let script = format!(
        "local key = '{key}'\nlocal maxlen = 100\nlocal order ='asc'\nlocal len = tonumber(redis.call('LLEN', key))\n\
         if len > maxlen then\n    if order == 'asc' then\n        local l = len - maxlen\n        \
         return redis.call('LTRIM', key, l, -1)\n    else\n        return redis.call('LTRIM', key, 0, maxlen - 1)\n    \
         end\nend\n"
    );
    (vec!["eval".to_owned(), script, "0".to_owned()], "$-1")
}

// === impl Replayed ===

impl Replayed {
    fn calls(&self, server: SocketAddr) -> Row {
        let mut wire = Wire::open(server);
        let connected = self.connect.iter().try_for_each(|step| wire.step(step));
        let mut cell = |step: &Step| match (&connected, step.is_empty()) {
            (Err(why), _) => Cell::Wrong(why.clone()),
            (_, true) => Cell::Absent,
            _ => wire.step(step).map_or_else(Cell::Wrong, |()| Cell::Good),
        };
        let cells = [&self.ordinary, &self.health, &self.pipeline, &self.transaction].map(&mut cell).into();
        Row { program: self.program.into(), version: self.version.into(), mode: "plain".into(), real: false, cells }
    }

    fn reconnect(&self, server: SocketAddr) -> Cell {
        let mut wire = Wire::open(server);
        let again = self.connect.iter().chain([&self.ordinary]).try_for_each(|step| wire.step(step));
        again.map_or_else(Cell::Wrong, |()| Cell::Good)
    }
}

/// A connection whose replies are looked at as text.
struct Wire {
    stream: TcpStream,
    said: Vec<u8>,
}

impl Wire {
    fn open(server: SocketAddr) -> Self {
        let stream = TcpStream::connect(server).expect("a server that listens");
        stream.set_read_timeout(Some(SOON)).expect("a socket");
        Self { stream, said: Vec::new() }
    }

    /// Sends all commands at once, as these programs do, and reads the replies one by one.
    fn step(&mut self, step: &Step) -> Result<(), String> {
        let bytes: Vec<u8> = step.iter().flat_map(|(words, _)| encode(words)).collect();
        self.stream.write_all(&bytes).map_err(|error| error.to_string())?;
        for (words, expected) in step {
            let reply = self.reply()?;
            if !glob::matches(expected.as_bytes(), reply.as_bytes()) {
                return Err(format!("{} answered {reply}", words[0]));
            }
        }
        Ok(())
    }

    fn reply(&mut self) -> Result<String, String> {
        loop {
            let (frames, _) = crate::conformance::cut(&self.said);
            if let Some(frame) = frames.first() {
                self.said.drain(..frame.bytes.len());
                return Ok(frame.shown());
            }
            let mut piece = [0; 64 << 10];
            match self.stream.read(&mut piece) {
                Ok(0) => return Err("the connection was closed".to_owned()),
                Ok(count) => self.said.extend_from_slice(&piece[..count]),
                Err(error) => return Err(error.to_string()),
            }
        }
    }
}
