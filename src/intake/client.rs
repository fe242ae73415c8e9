//! What is known of one connection and of the server while a command is answered.

use std::sync::Arc;

use crate::record::lag::Lengths;
use crate::resp::encode::Protocol;

use super::cluster::Cluster;
use super::commands::scripts::Scripts;
use super::config::Limits;
use super::live::Hub;
use super::users::{User, Users};

/// The version of Redis whose behaviour is promised: libraries choose what they send by it.
pub const REDIS_VERSION: &str = "7.2.4";

/// How many database numbers SELECT knows, as in an unconfigured Redis.
pub const DATABASES: u32 = 16;

/// One connection, as commands see it.
#[derive(Debug)]
pub struct Client {
    /// Unique in this process's life, rising.
    pub id: u64,
    /// Where it comes from, `host:port`.
    pub address: String,
    /// Where it came in, `host:port`.
    pub local_address: String,
    /// When it was accepted, in Unix milliseconds.
    pub connected_at_ms: u64,
    /// When it last sent a command, in Unix milliseconds; the session keeps it.
    pub active_at_ms: u64,
    /// The name of its last command, for CLIENT LIST; the session keeps it.
    pub last_command: &'static str,
    /// Commands it sent; the session counts them.
    pub commands: u64,
    /// What it speaks.
    pub protocol: Protocol,
    /// CLIENT SETNAME's name; empty: none.
    pub name: String,
    /// CLIENT SETINFO's lib-name.
    pub library: String,
    /// CLIENT SETINFO's lib-ver.
    pub library_version: String,
    /// SELECT's number.
    pub database: u32,
    /// Who it is; `None`: it has to say so first.
    pub user: Option<Arc<User>>,
    /// The names in the certificate that it showed.
    pub certificate: Vec<String>,
    /// Wrong passwords on this connection.
    pub failed_logins: u32,
    /// Whether replies are sent.
    pub reply_mode: ReplyMode,
    /// What CLIENT TRACKING asked for.
    pub tracking: Option<Tracking>,
    /// How many channels, patterns and shard channels it follows. The session keeps it.
    pub follows: [usize; 3],
    /// It follows commands. The session keeps it.
    pub monitors: bool,
    /// Commands queued since MULTI; `None`: no transaction. The session keeps it.
    pub queued: Option<usize>,
    /// QUIT: the connection closes once all replies are out.
    pub close_after_reply: bool,
}

/// CLIENT REPLY's state. It hides replies; records are delivered all the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReplyMode {
    /// Replies are sent.
    #[default]
    On,
    /// None is.
    Off,
    /// Neither the reply to CLIENT REPLY SKIP nor the next one is.
    SkipTwo,
    /// The next one is not.
    SkipOne,
}

/// CLIENT TRACKING's options. No key of Tidegate ever changes, so nothing is ever invalidated.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tracking {
    /// BCAST.
    pub broadcast: bool,
    /// OPTIN.
    pub opt_in: bool,
    /// OPTOUT.
    pub opt_out: bool,
    /// NOLOOP.
    pub no_loop: bool,
    /// REDIRECT's client.
    pub redirect: Option<i64>,
    /// PREFIX, any number of them.
    pub prefixes: Vec<Vec<u8>>,
}

/// What INFO and its kin tell about the server, gathered by the session when such a command is answered.
pub struct ServerFacts<'a> {
    /// Forty hexadecimal digits, anew at each start.
    pub run_id: &'a str,
    /// The port of the listener, 0 for a Unix socket.
    pub tcp_port: u16,
    /// This process's number.
    pub process_id: u32,
    /// When the process started, in Unix milliseconds.
    pub started_at_ms: u64,
    /// Now, in Unix microseconds.
    pub now_us: u64,
    /// The configured limits.
    pub limits: &'a Limits,
    /// Bytes taken from the memory budget.
    pub used_memory: usize,
    /// Connections now.
    pub connected_clients: u64,
    /// What was counted since the start.
    pub totals: Totals,
    /// All users.
    pub users: &'a Users,
    /// What CLUSTER and SENTINEL answer.
    pub cluster: &'a Cluster,
    /// What LLEN answers, where that is not 0.
    pub lengths: Option<Lengths<'a>>,
    /// The scripts that were loaded.
    pub scripts: &'a Scripts,
    /// Who follows what.
    pub hub: &'a Hub,
    /// The other connections, for CLIENT LIST.
    pub clients: &'a dyn ClientLines,
}

/// Counters since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Connections accepted.
    pub connections: u64,
    /// Connections turned away at the limit.
    pub connections_rejected: u64,
    /// Commands answered.
    pub commands: u64,
    /// Bytes read from clients.
    pub bytes_in: u64,
    /// Bytes written to clients.
    pub bytes_out: u64,
    /// Records taken in.
    pub records_received: u64,
    /// Records whose command was answered with success.
    pub records_acknowledged: u64,
    /// Records whose command was answered with an error.
    pub records_refused: u64,
    /// Records between the two.
    pub records_in_flight: u64,
}

/// One connection's line in CLIENT LIST.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientLine {
    /// The connection.
    pub id: u64,
    /// [`Client::line`].
    pub line: String,
}

/// Who knows the connections of all workers.
pub trait ClientLines {
    /// A line for each connection, in any order. The asking one may be among them or not.
    fn lines(&self) -> Vec<ClientLine>;
}

// === impl Client ===

impl Client {
    /// A connection just accepted.
    pub fn new(id: u64, address: String, local_address: String, now_ms: u64, users: &Users) -> Self {
        Self {
            id,
            address,
            local_address,
            connected_at_ms: now_ms,
            active_at_ms: now_ms,
            last_command: "NULL",
            commands: 0,
            protocol: Protocol::Resp2,
            name: String::new(),
            library: String::new(),
            library_version: String::new(),
            database: 0,
            user: users.default_user(),
            certificate: Vec::new(),
            failed_logins: 0,
            reply_mode: ReplyMode::On,
            tracking: None,
            follows: [0; 3],
            monitors: false,
            queued: None,
            close_after_reply: false,
        }
    }

    /// RESET: as just accepted, but for where it comes from and what its library said of itself.
    pub fn reset(&mut self, users: &Users) {
        self.protocol = Protocol::Resp2;
        self.name.clear();
        self.database = 0;
        self.user = self.who_it_was(users);
        self.reply_mode = ReplyMode::On;
        self.tracking = None;
        self.queued = None;
    }

    /// The client showed a certificate with these names, and is the user of one of them.
    pub fn identify(&mut self, names: Vec<String>, users: &Users) {
        self.certificate = names;
        self.user = self.who_it_was(users);
    }

    /// Who it is without AUTH.
    fn who_it_was(&self, users: &Users) -> Option<Arc<User>> {
        users.certified(&self.certificate).or_else(|| users.default_user())
    }

    /// After a reload: the same user with the rights of now. Nobody, where there is no such user any more, or where a
    /// password is asked of it now and was not when the connection became this user. A password that changed is asked
    /// of those who come: who is there stays, as in Redis.
    pub fn follow(&mut self, users: &Users) {
        self.user = match &self.user {
            None => self.who_it_was(users),
            Some(was) => {
                let is = users.get(&was.name).filter(|is| was.needs_password() || !is.needs_password());
                is.cloned()
            }
        };
    }

    /// Whether the reply to the command just carried out is sent. Ask exactly once for each command, in order: a
    /// skipped reply is used up by asking.
    pub fn takes_reply(&mut self) -> bool {
        let (takes, next) = match self.reply_mode {
            ReplyMode::On => (true, ReplyMode::On),
            ReplyMode::Off => (false, ReplyMode::Off),
            ReplyMode::SkipTwo => (false, ReplyMode::SkipOne),
            ReplyMode::SkipOne => (false, ReplyMode::On),
        };
        self.reply_mode = next;
        takes
    }

    /// Its line in CLIENT LIST, without the line's end. Fields that Tidegate does not keep are left out.
    pub fn line(&self, now_ms: u64) -> String {
        let mut flags = String::new();
        let [channels, patterns, shards] = self.follows;
        if self.monitors {
            flags.push('O');
        }
        if channels + patterns + shards > 0 {
            flags.push('P');
        }
        if self.queued.is_some() {
            flags.push('x');
        }
        if self.tracking.is_some() {
            flags.push('t');
        }
        if flags.is_empty() {
            flags.push('N');
        }
        let multi = self.queued.map_or(-1, |queued| i64::try_from(queued).unwrap_or(i64::MAX));
        format!(
            "id={} addr={} laddr={} name={} age={} idle={} flags={flags} db={} sub={channels} psub={patterns} ssub={shards} multi={multi} \
             cmd={} user={} redir={} resp={} lib-name={} lib-ver={} tot-cmds={}",
            self.id,
            self.address,
            self.local_address,
            self.name,
            now_ms.saturating_sub(self.connected_at_ms) / 1000,
            now_ms.saturating_sub(self.active_at_ms) / 1000,
            self.database,
            self.last_command,
            self.user.as_ref().map_or("(none)", |user| &user.name),
            self.redirect(),
            self.protocol.number(),
            self.library,
            self.library_version,
            self.commands,
        )
    }

    /// Where invalidations go: -1 without tracking, 0 to this connection.
    pub fn redirect(&self) -> i64 {
        self.tracking.as_ref().map_or(-1, |tracking| tracking.redirect.unwrap_or(0))
    }
}

// === impl ServerFacts ===

impl ServerFacts<'_> {
    /// Now, in Unix milliseconds.
    pub fn now_ms(&self) -> u64 {
        self.now_us / 1000
    }

    /// Whether this is a part of a cluster.
    pub fn is_cluster(&self) -> bool {
        self.cluster.is_on()
    }

    /// What kind of server this is, as HELLO and INFO say it.
    pub fn mode(&self) -> &'static str {
        if self.is_cluster() { "cluster" } else { "standalone" }
    }

    /// Seconds since the start.
    pub fn uptime_seconds(&self) -> u64 {
        self.now_ms().saturating_sub(self.started_at_ms) / 1000
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::intake::config::{Login, UserConfig};

    #[test]
    fn skip_hides_its_own_reply_and_the_next_one() {
        let mut client = Client::new(1, String::new(), String::new(), 0, &Users::from_config(&[]).unwrap());
        assert!(client.takes_reply());
        client.reply_mode = ReplyMode::SkipTwo;
        assert!(!client.takes_reply());
        assert!(!client.takes_reply());
        assert!(client.takes_reply());
    }

    #[test]
    fn after_a_reload_rights_are_those_of_now_and_who_is_gone_is_nobody() {
        let users = |all: &[(&str, Option<&str>)]| {
            let configs: Vec<_> = all
                .iter()
                .map(|(name, password)| UserConfig {
                    name: (*name).into(),
                    login: password.map_or(Login::Free, |password| Login::Password(password.into())),
                    keys: vec![],
                    commands: vec!["+ping".into()],
                })
                .collect();
            Users::from_config(&configs).unwrap()
        };
        let open = Users::from_config(&[]).unwrap();
        let mut client = Client::new(1, String::new(), String::new(), 0, &open);
        client.follow(&users(&[("default", None)]));
        assert_eq!(client.user.as_ref().unwrap().command_rules(), "-@all +ping");
        client.follow(&users(&[("default", Some("new"))]));
        assert!(client.user.is_none(), "it never gave a password");
        client.follow(&open);
        assert!(client.user.is_some(), "nobody is asked for one");

        client.user = users(&[("app", Some("old"))]).authenticate(b"app", b"old");
        client.follow(&users(&[("app", Some("new"))]));
        assert!(client.user.is_some(), "a new password is for those who come");
        client.follow(&users(&[("other", None)]));
        assert!(client.user.is_none());
    }

    #[test]
    fn off_hides_every_reply() {
        let mut client = Client::new(1, String::new(), String::new(), 0, &Users::from_config(&[]).unwrap());
        client.reply_mode = ReplyMode::Off;
        assert!((0..3).all(|_| !client.takes_reply()));
    }
}
