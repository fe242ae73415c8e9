//! What the listener accepts and how much of it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::cluster::ClusterConfig;

/// The `[log]` section without its sub-sections.
#[derive(Clone, Debug)]
pub struct IntakeConfig {
    /// Where to listen, at least one.
    pub listen: Vec<ListenAddress>,
    /// Worker threads, at least 1 (0 in the file is one a core, resolved when parsed).
    pub threads: usize,
    /// Limits of a session and of all of them.
    pub limits: Limits,
    /// True: no AUTH needed although a listener is not on loopback.
    pub anonymous: bool,
    /// Who may connect; empty: everybody (on loopback, or with `anonymous`).
    pub users: Vec<UserConfig>,
    /// What CLUSTER and SENTINEL answer.
    pub cluster: ClusterConfig,
    /// How long a graceful stop may take before connections are cut.
    pub shutdown_timeout: Duration,
}

// === impl IntakeConfig ===

impl IntakeConfig {
    /// A listener that others than this machine reach and that would let somebody in without a password, with these
    /// users: as Redis's protected mode, that needs the word `anonymous`.
    pub fn open_to_all(&self, users: &[UserConfig], anonymous: bool) -> Option<SocketAddr> {
        let asked = !users.is_empty() && users.iter().all(|user| user.password.is_some());
        if anonymous || asked { None } else { beyond_loopback(&self.listen) }
    }
}

/// The first listener that others than this machine can reach.
pub fn beyond_loopback(listen: &[ListenAddress]) -> Option<SocketAddr> {
    listen.iter().find_map(|address| match address {
        ListenAddress::Tcp(address) if !address.ip().to_canonical().is_loopback() => Some(*address),
        ListenAddress::Tcp(_) | ListenAddress::Unix(_) => None,
    })
}

/// An address to listen on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenAddress {
    /// TCP; port 0 is any free one.
    Tcp(SocketAddr),
    /// A Unix socket's path, `unix:/path.sock` in the file.
    Unix(PathBuf),
}

/// Limits, each with an error or a close of its own and a counter.
#[derive(Clone, Debug)]
pub struct Limits {
    /// All unacknowledged records and half-read frames, overhead included, in bytes.
    pub memory: usize,
    /// The largest record that any route may ask for, in bytes.
    pub record_size: usize,
    /// The largest command on the wire, in bytes.
    pub frame_size: usize,
    /// The most arguments of a command.
    pub arguments: usize,
    /// The most replies, in bytes, that a client may leave unread before it is cut off.
    pub output_buffer: usize,
    /// The most connections at once.
    pub connections: usize,
    /// A connection that sends nothing for this long is closed; zero: never.
    pub idle_timeout: Duration,
}

/// A `[[log.user]]` section, its password already read from the file.
#[derive(Clone)]
pub struct UserConfig {
    /// The name in AUTH; `default` is who AUTH with one argument means.
    pub name: String,
    /// The password; `None`: no password is asked of this user.
    pub password: Option<String>,
    /// Globs over keys and channels that the user may write; empty: all.
    pub keys: Vec<String>,
    /// Redis ACL rules (`+@write`, `-info`, `+ping`), applied in order to nothing; empty: all commands.
    pub commands: Vec<String>,
}

// === impl UserConfig ===

impl std::fmt::Debug for UserConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The password stays out of logs and panics.
        f.debug_struct("UserConfig")
            .field("name", &self.name)
            .field("keys", &self.keys)
            .field("commands", &self.commands)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::intake::cluster::ClusterMode;

    #[test]
    fn what_others_reach_is_not_open_without_a_password_or_the_word() {
        let user = |password: Option<&str>| UserConfig {
            name: "u".into(),
            password: password.map(Into::into),
            keys: vec![],
            commands: vec![],
        };
        let (asked, free) = ([user(Some("p"))], [user(Some("p")), user(None)]);
        let config = |listen: &str| IntakeConfig {
            listen: vec![ListenAddress::Unix("/s".into()), ListenAddress::Tcp(listen.parse().unwrap())],
            threads: 1,
            limits: Limits {
                memory: 0,
                record_size: 0,
                frame_size: 0,
                arguments: 0,
                output_buffer: 0,
                connections: 0,
                idle_timeout: Duration::ZERO,
            },
            cluster: ClusterConfig { mode: ClusterMode::Off, sentinel_masters: vec![] },
            anonymous: false,
            users: vec![],
            shutdown_timeout: Duration::ZERO,
        };
        let open = |listen, users: &[UserConfig], word| config(listen).open_to_all(users, word).is_some();
        assert!(open("10.0.0.1:1", &[], false) && open("[::]:1", &free, false));
        assert!(
            !open("10.0.0.1:1", &asked, false) && !open("10.0.0.1:1", &[], true) && !open("127.0.0.1:1", &[], false)
        );
    }
}
