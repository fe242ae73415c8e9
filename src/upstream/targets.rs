//! Every address that is spoken to, once, whatever pools it is in.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use super::config::UpstreamTls;
use super::connection::{Target, TargetKey};

/// The addresses in use.
#[derive(Debug)]
pub(super) struct Targets {
    known: HashMap<TargetKey, Arc<Target>>,
    threads: usize,
    /// Those that may be used by nobody any more.
    released: Vec<TargetKey>,
}

// === impl Targets ===

impl Targets {
    pub(super) fn new(threads: usize) -> Self {
        Self { known: HashMap::new(), threads: threads.max(1), released: Vec::new() }
    }

    /// How many threads have connections.
    pub(super) fn threads(&self) -> usize {
        self.threads
    }

    /// The one at this address, spoken to with this TLS.
    pub(super) fn get(&mut self, address: SocketAddr, tls: Option<&Arc<UpstreamTls>>) -> Arc<Target> {
        let key = (address, tls.map(|tls| Arc::clone(tls.identity())));
        let made = || Arc::new(Target::new(address, tls.cloned(), self.threads));
        Arc::clone(self.known.entry(key).or_insert_with(made))
    }

    /// Says that an endpoint with this address is gone.
    pub(super) fn release(&mut self, target: &Target) {
        self.released.push(target.key());
    }

    /// Forgets addresses that no endpoint has. One that a request is still at is forgotten at a later call.
    pub(super) fn forget_unused(&mut self) {
        let known = &mut self.known;
        self.released.retain(|key| match known.get(key) {
            Some(target) if Arc::strong_count(target) > 1 => true,
            _ => {
                known.remove(key);
                false
            }
        });
    }
}
