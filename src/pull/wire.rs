//! The bodies of the pull API, as a client reads them: whole or not at all.
//!
//! What stands in them ends in files and commands of gateways, so that a text with a character that could mean something
//! there is garbage like a body that does not parse. Unknown fields are passed over: a newer server may have more.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::Deserializer;

use crate::endpoints::pool::PoolId;

/// A pool as the server has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pool {
    /// Its id.
    pub id: String,
    /// The generation of the TrafficPolicy that made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traffic_generation: Option<i64>,
    /// Sorted by address, then port.
    pub endpoints: Vec<Endpoint>,
    /// The entity tag of its body, quotes included: what is acknowledged.
    #[serde(default)]
    pub etag: String,
}

/// One place to send requests to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// Where.
    pub address: IpAddr,
    /// Which port, from 1 on.
    pub port: u16,
    /// `TCP`, `UDP` or `SCTP`.
    #[serde(default = "tcp")]
    pub protocol: String,
    /// Its part beside the others, at least 1.
    pub weight: u32,
    /// Whether it takes new requests.
    pub state: State,
    /// The zone that it is in.
    #[serde(default)]
    pub zone: Option<String>,
    /// The node that it runs on.
    #[serde(default)]
    pub node: Option<String>,
    /// The cluster that it is in.
    #[serde(default)]
    pub cluster: Option<String>,
    /// What it is, `namespace/pod` for a pod.
    #[serde(default)]
    pub target: Option<String>,
    /// The application's protocol.
    #[serde(default)]
    pub app_protocol: Option<String>,
}

/// Whether an endpoint takes new requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It does.
    Ready,
    /// It finishes those in flight.
    Draining,
}

/// A host that a service declares, and the pool behind it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Host {
    /// The name, or `*.` and a domain.
    pub host: String,
    /// Paths that begin so.
    #[serde(default = "slash")]
    pub path_prefix: String,
    /// The pool's id.
    pub pool: String,
    /// The namespace that took the host.
    #[serde(default)]
    pub namespace: String,
}

/// An answer of `/v1/delta`.
#[derive(Debug, Default)]
pub(super) struct Delta {
    pub(super) index: String,
    pub(super) changed: Vec<Pool>,
    pub(super) removed: Vec<String>,
}

#[derive(Deserialize)]
struct HostsBody {
    hosts: Vec<Host>,
}

/// Why a body is not used. The text is for people.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an answer that cannot be used: {0}")]
pub struct Garbage(pub(super) String);

fn tcp() -> String {
    "TCP".to_owned()
}

fn slash() -> String {
    "/".to_owned()
}

/// Reads the hosts of `/v1/hosts`.
pub(super) fn read_hosts(body: &[u8]) -> Result<Vec<Host>, Garbage> {
    let body: HostsBody = serde_json::from_slice(body).map_err(|error| Garbage(format!("no hosts: {error}")))?;
    body.hosts.iter().try_for_each(Host::check)?;
    Ok(body.hosts)
}

/// Whether a text means nothing but itself in a gateway's file, a shell or a socket of commands.
fn is_plain(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"'`;{}#$\\<>|&()".contains(&byte))
}

// === impl Pool ===

impl Pool {
    /// Endpoints that take new requests.
    pub fn ready(&self) -> impl Iterator<Item = &Endpoint> {
        self.endpoints.iter().filter(|it| it.state == State::Ready)
    }

    fn check(&self) -> Result<(), Garbage> {
        let bad = |why: String| Err(Garbage(format!("pool {:?}: {why}", self.id)));
        if let Err(error) = PoolId::parse(&self.id) {
            return bad(error.to_string());
        }
        let mut keys = BTreeSet::new();
        for it in &self.endpoints {
            let Endpoint { address, port, weight, .. } = it;
            if *port == 0 || *weight == 0 {
                return bad(format!("{address} has the port {port} and the weight {weight}"));
            }
            let texts = [&it.zone, &it.node, &it.cluster, &it.target, &it.app_protocol];
            let mut texts = texts.into_iter().flatten().chain([&it.protocol]);
            if let Some(text) = texts.find(|text| !is_plain(text)) {
                return bad(format!("{address} has the text {text:?}"));
            }
            if !keys.insert((address, port, &it.protocol)) {
                return bad(format!("{address} stands there twice"));
            }
        }
        Ok(())
    }
}

// === impl Endpoint ===

impl Endpoint {
    /// Address and port.
    pub fn socket(&self) -> SocketAddr {
        SocketAddr::new(self.address, self.port)
    }
}

// === impl Host ===

impl Host {
    fn check(&self) -> Result<(), Garbage> {
        let name = self.host.strip_prefix("*.").unwrap_or(&self.host);
        let named = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.".contains(&byte)) && !name.is_empty();
        let path = self.path_prefix.starts_with('/') && is_plain(&self.path_prefix);
        match named && path && is_plain(&self.namespace) && PoolId::parse(&self.pool).is_ok() {
            true => Ok(()),
            false => Err(Garbage(format!("host {:?}, path {:?}, pool {:?}", self.host, self.path_prefix, self.pool))),
        }
    }
}

// === impl Delta ===

impl Delta {
    /// Reads a body. Each pool's tag is that of its bytes as they stand there: the server makes them once for all.
    ///
    /// # Errors
    /// It is none, or something in it cannot be.
    pub(super) fn read(body: &[u8]) -> Result<Self, Garbage> {
        let mut reader = Reader { bytes: body, at: 0 };
        let (mut index, mut changed, mut removed) = (None, None, None);
        reader.expect(b'{')?;
        while !reader.take(b'}') {
            let key: Cow<'_, str> = reader.value()?.0;
            reader.expect(b':')?;
            match &*key {
                "index" => index = Some(reader.value::<String>()?.0),
                "changed" => changed = Some(reader.pools()?),
                "removed" => removed = Some(reader.value::<Vec<String>>()?.0),
                _ => {
                    reader.value::<IgnoredAny>()?;
                }
            }
            if !reader.take(b',') && reader.peek() != Some(b'}') {
                return Err(reader.bad("neither , nor }"));
            }
        }
        if reader.peek().is_some() {
            return Err(reader.bad("something after the end"));
        }
        let (Some(index), Some(changed), Some(removed)) = (index, changed, removed) else {
            return Err(Garbage("it lacks index, changed or removed".to_owned()));
        };
        if index.is_empty() || !index.bytes().all(|byte| byte.is_ascii_alphanumeric() || b":-._".contains(&byte)) {
            return Err(Garbage(format!("the index {index:?}")));
        }
        changed.iter().try_for_each(Pool::check)?;
        let mut ids = BTreeSet::new();
        match changed.iter().map(|pool| &pool.id).chain(&removed).find(|id| !ids.insert(*id)) {
            Some(twice) => Err(Garbage(format!("pool {twice:?} stands there twice"))),
            None => Ok(Self { index, changed, removed }),
        }
    }
}

/// Reads JSON part by part, so that the bytes of a part are known.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

// === impl Reader ===

impl<'a> Reader<'a> {
    fn rest(&self) -> &'a [u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }

    fn peek(&mut self) -> Option<u8> {
        let blank = self.rest().iter().take_while(|byte| byte.is_ascii_whitespace()).count();
        self.at += blank;
        self.rest().first().copied()
    }

    fn take(&mut self, byte: u8) -> bool {
        let there = self.peek() == Some(byte);
        self.at += usize::from(there);
        there
    }

    fn expect(&mut self, byte: u8) -> Result<(), Garbage> {
        if self.take(byte) { Ok(()) } else { Err(self.bad(&format!("no {}", char::from(byte)))) }
    }

    /// The next value, and its bytes.
    fn value<T: Deserialize<'a>>(&mut self) -> Result<(T, &'a [u8]), Garbage> {
        self.peek();
        let rest = self.rest();
        let mut values = Deserializer::from_slice(rest).into_iter::<T>();
        let value = match values.next() {
            Some(Ok(value)) => value,
            Some(Err(error)) => return Err(self.bad(&error.to_string())),
            None => return Err(self.bad("it is cut")),
        };
        let length = values.byte_offset();
        self.at += length;
        Ok((value, rest.get(..length).unwrap_or_default()))
    }

    fn pools(&mut self) -> Result<Vec<Pool>, Garbage> {
        let mut pools = Vec::new();
        self.expect(b'[')?;
        while !self.take(b']') {
            let (pool, bytes) = self.value::<Pool>()?;
            pools.push(Pool { etag: etag(bytes), ..pool });
            if !self.take(b',') && self.peek() != Some(b']') {
                return Err(self.bad("neither , nor ]"));
            }
        }
        Ok(pools)
    }

    fn bad(&self, why: &str) -> Garbage {
        Garbage(format!("byte {}: {why}", self.at))
    }
}

/// The entity tag of a body as the server makes it: 128 bits of its SHA-256.
fn etag(bytes: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    format!("\"{}\"", crate::endpoints::hub::wire::hex(digest.as_ref()))
}

/// Shared by everybody who has it.
pub type SharedPool = Arc<Pool>;

#[cfg(test)]
mod tests {
    use super::*;

    const POOL: &str = r#"{"id":"a/b","endpoints":[{"address":"10.0.0.1","port":80,"weight":100,"state":"ready","zone":"z"},{"address":"fd00::1","port":80,"weight":1,"state":"draining"}]}"#;

    fn body(pools: &str) -> String {
        format!(r#"{{"index":"b:1","changed":[{pools}],"removed":["x"],"new":{{"a":[1]}}}}"#)
    }

    #[test]
    fn a_delta_is_read_with_the_tag_of_each_pool_s_bytes() {
        let delta = Delta::read(body(POOL).as_bytes()).unwrap();
        assert_eq!((delta.index.as_str(), delta.removed.as_slice()), ("b:1", ["x".to_owned()].as_slice()));
        let pool = &delta.changed[0];
        assert_eq!(pool.etag, etag(POOL.as_bytes()));
        assert_eq!((pool.ready().count(), pool.endpoints.len()), (1, 2));
        assert_eq!(pool.endpoints[0].protocol, "TCP");
        let spaced = format!(
            " {{ \"removed\" : [ ] , \"changed\":[ {POOL} , {}] ,\"index\":\"b:2\"}}\n",
            POOL.replace("a/b", "c")
        );
        let delta = Delta::read(spaced.as_bytes()).unwrap();
        assert_eq!((delta.changed.len(), delta.changed[0].etag.clone()), (2, etag(POOL.as_bytes())));
    }

    #[test]
    fn whatever_is_no_delta_is_refused_whole() {
        let good = body(POOL);
        for end in 0..good.len() {
            assert!(Delta::read(&good.as_bytes()[..end]).is_err(), "cut at {end}");
        }
        for bad in [
            "[]".to_owned(),
            "null".to_owned(),
            "{}".to_owned(),
            "<html>502</html>".to_owned(),
            format!("{good}x"),
            body(&POOL.replace("\"port\":80", "\"port\":0")),
            body(&POOL.replace("\"port\":80", "\"port\":65536")),
            body(&POOL.replace("\"weight\":1,", "\"weight\":0,")),
            body(&POOL.replace("draining", "gone")),
            body(&POOL.replace("fd00::1", "10.0.0.1")),
            body(&POOL.replace("a/b", "a b")),
            body(&POOL.replace("\"zone\":\"z\"", "\"zone\":\"z\\n  server evil 1.2.3.4:1\"")),
            body(&POOL.replace("\"zone\":\"z\"", "\"zone\":\"z;add server\"")),
            body(&format!("{POOL},{POOL}")),
            body(&POOL.replace("a/b", "x")),
            good.replace("b:1", "b:1&wait=0s"),
        ] {
            assert!(Delta::read(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn hosts_are_names_and_nothing_else() {
        let hosts = |host: &str, path: &str| {
            let text = format!(
                r#"{{"index":"b:1","hosts":[{{"host":"{host}","path_prefix":"{path}","pool":"a/b","namespace":"shop"}}]}}"#
            );
            read_hosts(text.as_bytes())
        };
        assert_eq!(hosts("*.shop.example", "/v1").unwrap()[0].pool, "a/b");
        for (host, path) in [("a b", "/"), ("", "/"), ("*", "/"), ("a;", "/"), ("a", "v1"), ("a", "/{"), ("a", "/ x")] {
            assert!(hosts(host, path).is_err(), "{host} {path}");
        }
        assert!(read_hosts(b"{}").is_err());
    }
}
