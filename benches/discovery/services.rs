//! The services of the bench: their pods, their slices as Kubernetes's controller writes them, and when each was changed.
//!
//! Each service has one endpoint more, on an address of its own that never changes, whose target's name carries the
//! number of the service's last change: `mark-SERVICE-NUMBER`.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::sync::{Mutex, MutexGuard};
use std::time::Instant;

/// All services.
pub(crate) struct Services(Vec<Mutex<Service>>);

pub(crate) struct Service {
    number: usize,
    /// Numbers of the pods that are ready, the oldest first.
    pods: VecDeque<u32>,
    /// The pod that is going, if one is.
    draining: Option<u32>,
    next_pod: u32,
    /// When each change was written.
    changed: Vec<Instant>,
}

/// The namespaces over which services are spread.
const NAMESPACES: usize = 50;
/// Pods that one service can have in its life without meeting another's addresses.
const ADDRESSES: u32 = 1 << 11;

impl Services {
    /// So many services with so many endpoints each.
    pub(crate) fn new(services: usize, endpoints: usize) -> Self {
        let pods = u32::try_from(endpoints - 1).unwrap();
        let service = |number| Service {
            number,
            pods: (0..pods).collect(),
            draining: None,
            next_pod: pods,
            changed: vec![Instant::now()],
        };
        Self((0..services).map(|number| Mutex::new(service(number))).collect())
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn get(&self, number: usize) -> MutexGuard<'_, Service> {
        self.0[number].lock().unwrap()
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = MutexGuard<'_, Service>> {
        self.0.iter().map(|service| service.lock().unwrap())
    }
}

impl Service {
    pub(crate) fn namespace(&self) -> String {
        format!("team-{:02}", self.number % NAMESPACES)
    }

    pub(crate) fn name(&self) -> String {
        format!("application-{:05}", self.number)
    }

    /// The slice's name.
    pub(crate) fn slice(&self) -> String {
        format!("{}-x7k2p", self.name())
    }

    /// The pool's id.
    pub(crate) fn pool(&self) -> String {
        format!("east/{}/{}/http", self.namespace(), self.name())
    }

    /// The next of what happens to a service's pods in a rolling update, whichever it is.
    pub(crate) fn step(&mut self) {
        if self.draining.take().is_some() {
            // It is gone.
        } else if self.changed.len() % 3 == 1 {
            self.pods.push_back(self.next_pod);
            self.next_pod = (self.next_pod + 1) % ADDRESSES;
        } else {
            self.draining = self.pods.pop_front();
        }
    }

    /// A pod is replaced by another one at once.
    pub(crate) fn replace_pod(&mut self) {
        self.pods.pop_front();
        self.pods.push_back(self.next_pod);
        self.next_pod = (self.next_pod + 1) % ADDRESSES;
    }

    /// Counts a change that is written now.
    pub(crate) fn write(&mut self) {
        self.changed.push(Instant::now());
    }

    /// The number of the last change; 0 for none.
    pub(crate) fn last(&self) -> usize {
        self.changed.len() - 1
    }

    /// When a change was written.
    pub(crate) fn changed_at(&self, number: usize) -> Instant {
        self.changed[number]
    }

    /// `ADDRESS STATE` of each endpoint, sorted.
    pub(crate) fn endpoints(&self) -> Vec<String> {
        let ready = self.pods.iter().map(|pod| format!("{} ready", self.address(*pod)));
        let draining = self.draining.iter().map(|pod| format!("{} draining", self.address(*pod)));
        let mut all: Vec<String> = ready.chain(draining).chain([format!("{} ready", self.mark())]).collect();
        all.sort();
        all
    }

    fn address(&self, pod: u32) -> Ipv4Addr {
        let number = u32::try_from(self.number).unwrap();
        Ipv4Addr::from_bits(Ipv4Addr::new(10, 0, 0, 0).to_bits() | ((number << 11 | pod) & 0x00FF_FFFF))
    }

    fn mark(&self) -> Ipv4Addr {
        let number = u32::try_from(self.number).unwrap();
        Ipv4Addr::from_bits(Ipv4Addr::new(172, 16, 0, 0).to_bits() + number)
    }

    /// The slice as of now. The version is empty where the API server is to give one.
    pub(crate) fn object(&self, version: &str) -> String {
        let (namespace, name, slice) = (self.namespace(), self.name(), self.slice());
        let mut text = String::with_capacity(1_200 + 420 * self.pods.len());
        let version = if version.is_empty() { String::new() } else { format!("\"resourceVersion\":\"{version}\",") };
        let _ = write!(
            text,
            "{{\"kind\":\"EndpointSlice\",\"apiVersion\":\"discovery.k8s.io/v1\",\"metadata\":{{\"name\":\"{slice}\",\
             \"generateName\":\"{name}-\",\"namespace\":\"{namespace}\",{version}\"labels\":{{\"app.kubernetes.io/name\":\"{name}\",\
             \"endpointslice.kubernetes.io/managed-by\":\"bench.tidegate.dev\",\"kubernetes.io/service-name\":\"{name}\"}},\
             \"annotations\":{{\"endpoints.kubernetes.io/last-change-trigger-time\":\"2026-01-01T00:00:00Z\"}}}},\
             \"addressType\":\"IPv4\",\"endpoints\":["
        );
        let ready = self.pods.iter().map(|pod| (self.address(*pod), *pod, true));
        let draining = self.draining.iter().map(|pod| (self.address(*pod), *pod, false));
        for (address, pod, ready) in ready.chain(draining) {
            let (node, zone) = (pod as usize * 31 + self.number, ["a", "b", "c"][pod as usize % 3]);
            let _ = write!(
                text,
                "{{\"addresses\":[\"{address}\"],\"conditions\":{{\"ready\":{ready},\"serving\":true,\"terminating\":{}}},\
                 \"targetRef\":{{\"kind\":\"Pod\",\"namespace\":\"{namespace}\",\"name\":\"{name}-7d4b9c6f5-{pod:05}\",\
                 \"uid\":\"8c6b3d1e-2f4a-4c5b-9d7e-{pod:012}\"}},\"nodeName\":\"node-{:04}.example.internal\",\"zone\":\"{zone}\"}},",
                !ready,
                node % 2_000
            );
        }
        let _ = write!(
            text,
            "{{\"addresses\":[\"{}\"],\"conditions\":{{\"ready\":true,\"serving\":true,\"terminating\":false}},\
             \"targetRef\":{{\"kind\":\"Pod\",\"namespace\":\"{namespace}\",\"name\":\"mark-{}-{}\"}}}}],\
             \"ports\":[{{\"name\":\"http\",\"port\":8080,\"protocol\":\"TCP\"}}]}}",
            self.mark(),
            self.number,
            self.last()
        );
        text
    }
}
