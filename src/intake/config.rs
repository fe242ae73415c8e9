//! What the listener accepts and how much of it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::cluster::ClusterConfig;
use crate::net::tls::{Clients, TlsConfig};

/// The `[log]` section without its sub-sections.
#[derive(Clone, Debug)]
pub struct IntakeConfig {
    /// Where to listen, at least one.
    pub listen: Vec<ListenAddress>,
    /// Worker threads, at least 1 (0 in the file is one a core, resolved when parsed).
    pub threads: usize,
    /// Limits of a session and of all of them.
    pub limits: Limits,
    /// What listeners with TLS show and ask for; there is one where [`ListenAddress::Tls`] is listened on.
    pub tls: Option<TlsConfig>,
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
    /// Which of these listeners others than this machine reach and would let somebody in without a password or a
    /// certificate: as Redis's protected mode, that needs the word `anonymous`.
    pub fn opens(&self, listen: &[ListenAddress]) -> Option<SocketAddr> {
        let asked = !self.users.is_empty() && self.users.iter().all(|user| user.login != Login::Free);
        if self.anonymous || asked { None } else { unguarded(listen, self.tls.as_ref()) }
    }
}

/// The first listener that others than this machine reach without a certificate.
pub fn unguarded(listen: &[ListenAddress], tls: Option<&TlsConfig>) -> Option<SocketAddr> {
    let guarded = tls.is_some_and(|tls| tls.clients() == Clients::Required);
    listen.iter().find_map(|address| match address {
        ListenAddress::Tls(_) if guarded => None,
        ListenAddress::Tcp(address) | ListenAddress::Tls(address) => {
            Some(*address).filter(|address| !address.ip().to_canonical().is_loopback())
        }
        ListenAddress::Unix(_) => None,
    })
}

/// An address to listen on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenAddress {
    /// TCP; port 0 is any free one.
    Tcp(SocketAddr),
    /// TCP with TLS; port 0 is any free one.
    Tls(SocketAddr),
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

/// How one becomes a user. Whoever shows a client certificate with a user's name is that user in any case.
#[derive(Clone, PartialEq, Eq)]
pub enum Login {
    /// Whoever gives the name.
    Free,
    /// Whoever gives the password.
    Password(String),
    /// Nobody else than who shows the certificate.
    Certificate,
}

/// A `[[log.user]]` section, its password already read from the file.
#[derive(Clone)]
pub struct UserConfig {
    /// The name in AUTH; `default` is who AUTH with one argument means.
    pub name: String,
    /// How one becomes this user.
    pub login: Login,
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
        let user = |login| UserConfig { name: "u".into(), login, keys: vec![], commands: vec![] };
        let asked = [user(Login::Password("p".into())), user(Login::Certificate)];
        let free = [user(Login::Certificate), user(Login::Free)];
        let config = |users: &[UserConfig], anonymous| IntakeConfig {
            listen: vec![],
            threads: 1,
            tls: None,
            limits: Limits {
                memory: 0,
                record_size: 0,
                frame_size: 0,
                arguments: 0,
                output_buffer: 0,
                connections: 0,
                idle_timeout: Duration::ZERO,
            },
            cluster: ClusterConfig { mode: ClusterMode::Off, sentinel_masters: vec![], sentinel_port: None },
            anonymous,
            users: users.to_vec(),
            shutdown_timeout: Duration::ZERO,
        };
        let open = |listen: &str, users: &[UserConfig], word| {
            let listen = [ListenAddress::Unix("/s".into()), ListenAddress::Tcp(listen.parse().unwrap())];
            config(users, word).opens(&listen).is_some()
        };
        assert!(open("10.0.0.1:1", &[], false) && open("[::]:1", &free, false));
        assert!(
            !open("10.0.0.1:1", &asked, false) && !open("10.0.0.1:1", &[], true) && !open("127.0.0.1:1", &[], false)
        );
    }
}
