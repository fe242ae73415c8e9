//! Who asks, and what they may.
//!
//! Whoever sends a token is its holder; whoever shows a certificate with the name of an entry that is for certificates is
//! that one's. Where no entry is for certificates, one that the authority signed may read, and speak for the gateways of
//! its own names. Without either, a peer on loopback whose `Host` is this machine (a page from elsewhere
//! whose name was made to resolve to 127.0.0.1 is not) may do everything, and others may read where `anonymous` says so.

use std::net::IpAddr;

use subtle::ConstantTimeEq;

use super::config::{DiscoveryConfig, Scope, Token};
use crate::endpoints::Snapshot;
use crate::endpoints::pool::Pool;

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Client {
    /// What logs show, and who it is to gateways.
    pub(super) name: String,
    /// What limits are counted by: the name at an address, so that thousands of relays or gateways that share a token do
    /// not share what one of them gets.
    pub(super) account: String,
    /// What it may read.
    pub(super) scope: Scope,
    /// The gateways that it may speak for; `None` for one that may not write.
    pub(super) gateways: Option<Vec<String>>,
}

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// No token, or none of ours: 401.
    Token,
    /// It may read and not write: 403.
    ReadOnly,
    /// It may write, and not for this name: 403.
    Foreign,
}

/// The rule of one listener.
#[derive(Debug)]
pub(super) struct Access {
    tokens: Vec<Token>,
    anonymous_reads: bool,
}

// === impl Access ===

impl Access {
    pub(super) fn new(tokens: Vec<Token>, anonymous_reads: bool) -> Self {
        Self { tokens, anonymous_reads }
    }

    /// The rule that a configuration has.
    pub(super) fn of(config: &DiscoveryConfig) -> Self {
        Self::new(config.tokens.clone(), config.anonymous_reads)
    }

    /// Decides on a request by its peer, its `Host` and `Authorization` headers, and the names in its certificate.
    pub(super) fn check(
        &self,
        peer: IpAddr,
        host: Option<&str>,
        authorization: Option<&str>,
        names: &[String],
    ) -> Result<Client, Refusal> {
        let peer = peer.to_canonical();
        if let Some(authorization) = authorization {
            return Ok(Client::holding(self.token(authorization).ok_or(Refusal::Token)?, peer));
        }
        if let Some(client) = self.certified(names, peer) {
            return Ok(client);
        }
        let client = |gateways| Client::new(&peer.to_string(), peer, Scope::default(), gateways);
        if peer.is_loopback() && host.is_none_or(names_this_machine) {
            return Ok(client(Some(vec!["*".to_owned()])));
        }
        if self.anonymous_reads { Ok(client(None)) } else { Err(Refusal::Token) }
    }

    /// Who shows a certificate with these names.
    fn certified(&self, names: &[String], peer: IpAddr) -> Option<Client> {
        let first = names.first()?;
        let of_name = |name: &String| self.tokens.iter().find(|token| token.certificate && token.name == *name);
        if let Some(token) = names.iter().find_map(of_name) {
            return Some(Client::holding(token, peer));
        }
        let any = self.tokens.iter().any(|token| token.certificate);
        let own = || Client::new(first, peer, Scope::default(), Some(names.to_vec()));
        (!any).then(own)
    }

    fn token(&self, authorization: &str) -> Option<&Token> {
        let (scheme, secret) = authorization.split_once(' ')?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        // Compared with every token, so that the time tells nothing about which one was close.
        let mut found = None;
        for token in self.tokens.iter().filter(|token| !token.secret.is_empty()) {
            if bool::from(token.secret.as_bytes().ct_eq(secret.trim().as_bytes())) {
                found = Some(token);
            }
        }
        found
    }
}

fn names_this_machine(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let name = name.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok()
}

// === impl Client ===

impl Client {
    /// Who is called so and asks from this address.
    pub(super) fn new(name: &str, peer: IpAddr, scope: Scope, gateways: Option<Vec<String>>) -> Self {
        Self { name: name.to_owned(), account: format!("{name} {peer}"), scope, gateways }
    }

    fn holding(token: &Token, peer: IpAddr) -> Self {
        let gateways = token.may_write.then(|| token.gateways.clone());
        Self::new(&token.name, peer, token.scope.clone(), gateways)
    }

    /// Whether it may speak for a gateway of this name.
    pub(super) fn owns(&self, gateway: &str) -> Result<bool, Refusal> {
        let gateways = self.gateways.as_ref().ok_or(Refusal::ReadOnly)?;
        let owns = |pattern: &String| match pattern.strip_suffix('*') {
            Some(start) => gateway.starts_with(start),
            None => pattern == gateway,
        };
        Ok(gateways.iter().any(owns))
    }
}

// === impl Scope ===

impl Scope {
    /// Whether a pool may be seen. One that belongs to no cluster or namespace is seen only where none is asked for.
    pub(super) fn admits(&self, pool: &Pool, snapshot: &Snapshot) -> bool {
        let namespace = || pool.namespace.as_deref().is_some_and(|it| self.namespaces.iter().any(|named| named == it));
        let cluster = || {
            let of_shard = |at: &usize| snapshot.shards().get(*at).and_then(|shard| shard.prefix.as_deref());
            !pool.shards.is_empty()
                && pool.shards.iter().all(|at| of_shard(at).is_some_and(|prefix| self.names_cluster(prefix)))
        };
        (self.namespaces.is_empty() || namespace()) && (self.clusters.is_empty() || cluster())
    }

    /// Whether it names the cluster that ids with this prefix are of.
    pub(super) fn names_cluster(&self, prefix: &str) -> bool {
        let cluster = prefix.split('/').next().unwrap_or(prefix);
        self.clusters.iter().any(|it| it == cluster)
    }

    /// Whether a pool that is gone, of which only the id is known, may have been seen. Its id tells where it was.
    pub(super) fn may_have_admitted(&self, id: &str) -> bool {
        let mut parts = id.split('/');
        let (cluster, namespace) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let named = |list: &[String], part: &str| list.is_empty() || list.iter().any(|it| it == part);
        named(&self.namespaces, namespace) && (cluster == "app" || named(&self.clusters, cluster))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(anonymous_reads: bool) -> Access {
        let token = |name: &str, secret: &str, may_write| Token {
            name: name.into(),
            secret: secret.into(),
            certificate: false,
            scope: Scope { clusters: vec!["east".into()], namespaces: vec![] },
            may_write,
            gateways: vec![name.into(), "edge-*".into()],
        };
        Access::new(vec![token("reader", "abc", false), token("writer", "xyz", true)], anonymous_reads)
    }

    fn check(access: &Access, peer: &str, host: &str, authorization: Option<&str>) -> Result<Client, Refusal> {
        access.check(peer.parse().unwrap(), Some(host), authorization, &[])
    }

    #[test]
    fn a_token_decides_wherever_it_comes_from() {
        for peer in ["127.0.0.1", "10.1.2.3"] {
            let client = check(&access(false), peer, "any", Some("Bearer xyz")).unwrap();
            assert_eq!((client.name.as_str(), client.scope.clusters.as_slice()), ("writer", &["east".to_owned()][..]));
            for bad in ["Bearer xy", "Bearer ", "Basic xyz", "xyz"] {
                assert_eq!(check(&access(true), peer, "localhost", Some(bad)), Err(Refusal::Token), "{bad}");
            }
        }
    }

    #[test]
    fn holders_of_one_token_at_several_addresses_are_counted_by_themselves() {
        let at = |peer| check(&access(false), peer, "any", Some("Bearer xyz")).unwrap();
        let (one, other) = (at("10.1.2.3"), at("10.1.2.4"));
        assert_eq!((&one.name, &one.account), (&other.name, &at("::ffff:10.1.2.3").account));
        assert_ne!(one.account, other.account);
        assert_ne!(one.account, check(&access(false), "10.1.2.3", "any", Some("Bearer abc")).unwrap().account);
    }

    #[test]
    fn without_a_token_this_machine_may_everything_and_others_what_is_said() {
        let local = check(&access(false), "127.0.0.1", "localhost:8500", None).unwrap();
        assert_eq!(local.owns("anything"), Ok(true));
        assert_eq!(check(&access(false), "127.0.0.1", "evil.example", None), Err(Refusal::Token));
        assert_eq!(check(&access(false), "10.1.2.3", "localhost", None), Err(Refusal::Token));
        let reader = check(&access(true), "10.1.2.3", "any", None).unwrap();
        assert_eq!(reader.owns("edge-1"), Err(Refusal::ReadOnly));
    }

    #[test]
    fn a_certificate_is_the_entry_of_its_name_and_without_such_entries_its_own_names() {
        let check = |access: &Access, names: &[&str], authorization| {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            access.check("10.1.2.3".parse().unwrap(), Some("any"), authorization, &names)
        };
        let plain = access(false);
        let own = check(&plain, &["edge-9.example", "edge-9"], None).unwrap();
        assert_eq!(
            (own.name.as_str(), own.owns("edge-9"), own.owns("edge-1")),
            ("edge-9.example", Ok(true), Ok(false))
        );
        assert_eq!(check(&plain, &["writer"], Some("Bearer no")), Err(Refusal::Token), "a token is asked for first");
        let mut access = access(false);
        let edge =
            Token { name: "edge-9".into(), secret: String::new(), certificate: true, ..access.tokens[1].clone() };
        access.tokens.push(edge);
        let named = check(&access, &["other", "edge-9"], None).unwrap();
        assert_eq!((named.name.as_str(), named.scope.clusters.as_slice()), ("edge-9", &["east".to_owned()][..]));
        assert_eq!(check(&access, &["writer"], None), Err(Refusal::Token), "that entry is not for certificates");
        assert_eq!(check(&access, &["stranger"], None), Err(Refusal::Token));
        assert_eq!(check(&access, &[], Some("Bearer ")), Err(Refusal::Token), "no secret is none that can be sent");
    }

    #[test]
    fn a_token_speaks_only_for_its_gateways_and_only_if_it_may_write() {
        let writer = check(&access(false), "10.1.2.3", "any", Some("Bearer xyz")).unwrap();
        assert_eq!(
            (writer.owns("writer"), writer.owns("edge-7"), writer.owns("core-1")),
            (Ok(true), Ok(true), Ok(false))
        );
        let reader = check(&access(false), "10.1.2.3", "any", Some("Bearer abc")).unwrap();
        assert_eq!(reader.owns("reader"), Err(Refusal::ReadOnly));
    }
}
