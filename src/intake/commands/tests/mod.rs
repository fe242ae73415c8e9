//! Behaviour of commands, each compared with what a redis-server 7.0 answers unless the name says otherwise.

use std::time::{Duration, Instant};

use crate::intake::client::{ClientLine, ClientLines, Totals};
use crate::intake::cluster::Cluster;
use crate::intake::config::{Limits, Login, UserConfig};
use crate::intake::users::Users;
use crate::record::lag::{Lags, Lengths};
use crate::record::route::RouteTable;
use crate::resp::encode::encode;

use super::*;

mod cluster;
mod connection;
mod keyspace;
mod server;
mod wording;

struct Others;

impl ClientLines for Others {
    fn lines(&self) -> Vec<ClientLine> {
        vec![ClientLine { id: 9, line: "id=9 other".into() }, ClientLine { id: 7, line: "stale".into() }]
    }
}

/// A server with one connection, number 7; every command goes the way that a session takes.
struct Bench {
    users: Users,
    client: Client,
    limits: Limits,
    cluster: Cluster,
    routes: RouteTable,
    lags: Option<Lags>,
    scripts: scripts::Scripts,
    hub: live::Hub,
}

impl Bench {
    fn new(users: &[UserConfig]) -> Self {
        let users = Users::from_config(users).unwrap();
        let client = Client::new(7, "10.0.0.1:5000".into(), "10.0.0.2:6379".into(), 1_000, &users);
        let limits = Limits {
            memory: 256 << 20,
            record_size: 1 << 20,
            frame_size: 2 << 20,
            arguments: 1 << 20,
            output_buffer: 1 << 20,
            connections: 20_000,
            idle_timeout: Duration::from_secs(30),
        };
        let (cluster, scripts) = (Cluster::default(), scripts::Scripts::default());
        let routes = RouteTable::compile(vec![]).unwrap();
        Self { users, client, limits, cluster, routes, lags: None, scripts, hub: live::Hub::default() }
    }

    fn open() -> Self {
        Self::new(&[])
    }

    fn ask(&mut self, line: &str) -> String {
        let args: Vec<&[u8]> = line.split(' ').map(|word| if word == "''" { b"" } else { word.as_bytes() }).collect();
        self.ask_args(&args)
    }

    fn ask_args(&mut self, args: &[&[u8]]) -> String {
        let facts = ServerFacts {
            run_id: "0123456789012345678901234567890123456789",
            tcp_port: 6379,
            process_id: 42,
            started_at_ms: 0,
            now_us: 61_000_007,
            limits: &self.limits,
            used_memory: 3 << 20,
            connected_clients: 2,
            totals: Totals { records_received: 5, ..Totals::default() },
            users: &self.users,
            cluster: &self.cluster,
            lengths: self.lags.as_ref().map(|lags| Lengths { routes: &self.routes, lags, now: Instant::now() }),
            scripts: &self.scripts,
            hub: &self.hub,
            clients: &Others,
        };
        let reply = match table::lookup(args[0]) {
            None => unknown(args),
            Some(spec) => match check(spec, args, &self.client) {
                Ok(spec) => answer(spec, args, &mut self.client, &facts),
                Err(refusal) => refusal,
            },
        };
        let mut out = Vec::new();
        encode(&reply, self.client.protocol, &mut out);
        String::from_utf8_lossy(&out).into_owned()
    }

    #[track_caller]
    fn expect(&mut self, line: &str, reply: &str) -> &mut Self {
        assert_eq!(self.ask(line), format!("{reply}\r\n"), "{line}");
        self
    }
}

fn user(name: &str, password: Option<&str>, keys: &[&str], commands: &[&str]) -> UserConfig {
    let owned = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    let login = password.map_or(Login::Free, |password| Login::Password(password.into()));
    UserConfig { name: name.into(), login, keys: owned(keys), commands: owned(commands) }
}

const ASK_AUTH: &str = "-NOAUTH Authentication required.";
const WRONG_PASS: &str = "-WRONGPASS invalid username-password pair or user is disabled.";
const NOT_A_NUMBER: &str = "-ERR value is not an integer or out of range";
const SYNTAX: &str = "-ERR syntax error";
const BAD_NAME: &str = "-ERR Client names cannot contain spaces, newlines or special characters.";
