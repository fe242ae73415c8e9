//! One connection of a client, as its requests see it.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use hyper::HeaderMap;
use hyper::header::{HeaderName, HeaderValue};

use super::reason::Reason;
use super::shared::Place;
use super::trust::Networks;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// What is known of a connection, and what its two sides tell each other: who reads its bytes, and who answers its requests.
#[derive(Debug)]
pub(super) struct Downstream {
    /// The client, or the proxy before it; as the PROXY protocol says where it is spoken.
    pub(super) peer: SocketAddr,
    /// Where it connected to.
    pub(super) local: SocketAddr,
    /// That of the listener, whatever the PROXY protocol says.
    pub(super) port: u16,
    pub(super) secure: bool,
    /// The first name in the certificate that it showed.
    pub(super) client_name: Option<HeaderValue>,
    /// Its word about who is behind it counts.
    pub(super) trusted: bool,
    /// `peer`'s address, as it stands in fields.
    pub(super) peer_text: HeaderValue,
    pub(super) forwarded_text: HeaderValue,
    /// Its place among those that may be open, for as long as anything of it goes on.
    _place: Option<Place>,
    requests: AtomicU32,
    upgrade: AtomicU8,
    /// Answers on their way to a client of HTTP/2, and how often their progress has been looked at.
    answers: Mutex<Vec<Weak<Taken>>>,
    looks: AtomicU64,
    /// One more than the place of the reason for which its bytes were refused; 0 while they were not.
    refusal: AtomicU8,
}

/// What became of an upgrade that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Upgrade {
    /// Not answered yet.
    Open,
    /// It is another protocol now.
    Taken,
    /// It stays HTTP.
    Refused,
}

/// Whether a client takes an answer. Nobody asks for the next piece of one whose client takes nothing, so that the answer cannot
/// tell the time itself.
#[derive(Debug, Default)]
pub(super) struct Taken(AtomicU64);

/// What makes a connection's facts.
#[derive(Debug)]
pub(super) struct Facts {
    pub(super) peer: SocketAddr,
    pub(super) local: SocketAddr,
    pub(super) port: u16,
    pub(super) secure: bool,
    pub(super) client_names: Vec<String>,
}

// === impl Downstream ===

impl Downstream {
    pub(super) fn new(facts: Facts, trusted: &Networks, place: Option<Place>) -> Self {
        let address = facts.peer.ip().to_canonical();
        let scheme = if facts.secure { "https" } else { "http" };
        let forwarded = match address {
            IpAddr::V4(address) => format!("for={address};proto={scheme}"),
            IpAddr::V6(address) => format!("for=\"[{address}]\";proto={scheme}"),
        };
        let value = |text: &str| HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static("unknown"));
        Self {
            peer: facts.peer,
            local: facts.local,
            port: facts.port,
            secure: facts.secure,
            client_name: facts.client_names.first().and_then(|name| HeaderValue::try_from(name.as_str()).ok()),
            trusted: trusted.contain(address),
            peer_text: value(&address.to_string()),
            forwarded_text: value(&forwarded),
            _place: place,
            requests: AtomicU32::new(0),
            upgrade: AtomicU8::new(0),
            answers: Mutex::default(),
            looks: AtomicU64::new(0),
            refusal: AtomicU8::new(0),
        }
    }

    #[cfg(test)]
    pub(super) fn for_tests(peer: SocketAddr, trusted: bool) -> Self {
        let facts = Facts { peer, local: peer, port: peer.port(), secure: false, client_names: Vec::new() };
        Self { trusted, ..Self::new(facts, &Networks::default(), None) }
    }

    pub(super) fn scheme(&self) -> &'static str {
        if self.secure { "https" } else { "http" }
    }

    /// Who asks: the peer, or behind trusted proxies the last address that none of them has.
    pub(super) fn client(&self, headers: &HeaderMap, trusted: &Networks) -> IpAddr {
        let own = self.peer.ip().to_canonical();
        if !self.trusted {
            return own;
        }
        let lines: Vec<&str> =
            headers.get_all(FORWARDED_FOR).into_iter().filter_map(|line| line.to_str().ok()).collect();
        let mut client = own;
        for text in lines.iter().rev().flat_map(|line| line.rsplit(',')) {
            // What is no address was not written by a proxy of ours.
            let Ok(address) = text.trim().parse::<IpAddr>() else { break };
            client = address.to_canonical();
            if !trusted.contain(client) {
                break;
            }
        }
        client
    }

    /// A request begins.
    pub(super) fn begin(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
    }

    /// It has ended, its answer's body included.
    pub(super) fn end(&self) {
        self.requests.fetch_sub(1, Ordering::Relaxed);
    }

    /// Whether no request is under way.
    pub(super) fn is_idle(&self) -> bool {
        self.requests.load(Ordering::Relaxed) == 0
    }

    /// Its bytes are refused: nothing more is read of it.
    pub(super) fn set_refusal(&self, reason: Reason) {
        let place = u8::try_from(reason as usize).unwrap_or_default();
        self.refusal.store(place + 1, Ordering::Release);
    }

    /// Why its bytes were refused, if they were.
    pub(super) fn refusal(&self) -> Option<Reason> {
        let place = self.refusal.load(Ordering::Acquire).checked_sub(1)?;
        Reason::ALL.get(usize::from(place)).copied()
    }

    /// The scheme that the client used, before trusted proxies too.
    pub(super) fn asked_scheme(&self, headers: &HeaderMap) -> &'static str {
        let told = headers.get(FORWARDED_PROTO).filter(|_| self.trusted).map(HeaderValue::as_bytes);
        match told {
            Some(b"https") => "https",
            Some(b"http") => "http",
            _ => self.scheme(),
        }
    }

    /// An answer begins; for HTTP/2, where one that is not taken holds up nothing else.
    pub(super) fn answering(&self) -> Arc<Taken> {
        let taken = Arc::new(Taken::default());
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        answers.retain(|answer| answer.strong_count() > 0);
        answers.push(Arc::downgrade(&taken));
        taken
    }

    /// A piece of an answer was handed over.
    pub(super) fn handed(&self, taken: &Taken) {
        taken.0.store(self.looks.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    /// Whether a piece that was handed over before the look before this one has not been taken since.
    pub(super) fn look_for_stalled(&self) -> bool {
        let looks = self.looks.fetch_add(1, Ordering::Relaxed);
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let handed = answers.iter().filter_map(Weak::upgrade).map(|taken| taken.0.load(Ordering::Relaxed));
        handed.into_iter().any(|handed| handed > 0 && handed <= looks)
    }

    pub(super) fn set_upgrade(&self, upgrade: Upgrade) {
        let number = match upgrade {
            Upgrade::Open => 0,
            Upgrade::Taken => 1,
            Upgrade::Refused => 2,
        };
        self.upgrade.store(number, Ordering::Release);
    }

    pub(super) fn upgrade(&self) -> Upgrade {
        match self.upgrade.load(Ordering::Acquire) {
            0 => Upgrade::Open,
            1 => Upgrade::Taken,
            _ => Upgrade::Refused,
        }
    }
}

// === impl Taken ===

impl Taken {
    /// The client waits for the pool, not the other way around.
    pub(super) fn waits(&self) {
        self.0.store(0, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::trust::Network;

    #[test]
    fn an_answer_that_is_not_taken_is_told_from_one_that_waits_for_its_pool() {
        let downstream = Downstream::for_tests("10.0.0.1:1".parse().unwrap(), false);
        let (stalled, waiting) = (downstream.answering(), downstream.answering());
        downstream.handed(&stalled);
        downstream.handed(&waiting);
        waiting.waits();
        assert!(!downstream.look_for_stalled(), "it has just been handed over");
        assert!(downstream.look_for_stalled());
        downstream.handed(&stalled);
        assert!(!downstream.look_for_stalled());
        drop(stalled);
        assert!(!downstream.look_for_stalled());
    }

    #[test]
    fn the_client_is_the_last_address_that_no_proxy_of_ours_has() {
        let networks = Networks(vec!["10.0.0.0/8".parse::<Network>().unwrap()]);
        let facts = |peer: &str| Facts {
            peer: peer.parse().unwrap(),
            local: peer.parse().unwrap(),
            port: 8080,
            secure: false,
            client_names: Vec::new(),
        };
        let client = |peer: &str, list: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for line in list {
                headers.append(FORWARDED_FOR, HeaderValue::from_static(line));
            }
            Downstream::new(facts(peer), &networks, None).client(&headers, &networks).to_string()
        };
        assert_eq!(client("192.0.2.1:1", &["1.1.1.1"]), "192.0.2.1");
        assert_eq!(client("10.0.0.1:1", &["9.9.9.9, 1.1.1.1, 10.2.2.2"]), "1.1.1.1");
        assert_eq!(client("10.0.0.1:1", &["9.9.9.9", "1.1.1.1"]), "1.1.1.1");
        assert_eq!(client("10.0.0.1:1", &["x, 10.2.2.2"]), "10.2.2.2");
        assert_eq!(client("10.0.0.1:1", &[]), "10.0.0.1");
    }
}
