//! Where changes come from: the simulator, or a real API server.

use clap::ValueEnum;
use serde_json::{Value, json};

use crate::kube::Cluster;
use crate::kube::objects::slice_path;
use crate::services::{Service, Services};
use crate::simulator::Simulator;

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// Speaks list and watch, and stores in memory.
    Simulator,
    /// kube-apiserver over etcd.
    Api,
}

pub(crate) enum Feed {
    Simulator(Simulator),
    Api(Box<Cluster>),
}

/// Writers at once to a real API server, each of which waits for its answer.
const WRITERS: usize = 8;

impl Feed {
    /// Starts it with all services written.
    pub(crate) fn start(kind: Kind, services: &Services) -> Self {
        match kind {
            Kind::Simulator => Self::Simulator(Simulator::start(services)),
            Kind::Api => {
                let cluster = Cluster::start(0);
                fill(&cluster, services);
                Self::Api(Box::new(cluster))
            }
        }
    }

    pub(crate) fn kubeconfig(&self) -> String {
        match self {
            Self::Simulator(simulator) => simulator.kubeconfig(),
            Self::Api(cluster) => std::fs::read_to_string(cluster.kubeconfig()).unwrap(),
        }
    }

    /// Changes a service. The change counts from before it is written, and with a real API server from before the request.
    pub(crate) fn write(&self, services: &Services, number: usize, edit: impl FnOnce(&mut Service)) {
        let mut service = services.get(number);
        edit(&mut service);
        service.write();
        match self {
            Self::Simulator(simulator) => simulator.write(number, &service),
            Self::Api(cluster) => {
                let (path, object) = (slice_path(&service.namespace(), &service.slice()), parsed(&service));
                // Clients look at it when they have an answer.
                drop(service);
                cluster.client().replace(&path, &object);
            }
        }
    }

    /// How many threads it takes to write hundreds of changes a second.
    pub(crate) fn writers(&self) -> usize {
        match self {
            Self::Simulator(_) => 1,
            Self::Api(_) => WRITERS,
        }
    }
}

impl std::fmt::Display for Feed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Simulator(_) => "a simulator of the API server's watch",
            Self::Api(_) => "a real API server over etcd",
        })
    }
}

fn parsed(service: &Service) -> Value {
    serde_json::from_str(&service.object("")).unwrap()
}

fn fill(cluster: &Cluster, services: &Services) {
    let mut namespaces: Vec<String> = services.all().map(|service| service.namespace()).collect();
    namespaces.sort();
    namespaces.dedup();
    for name in namespaces {
        cluster.client().create(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}));
    }
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            scope.spawn(move || {
                for number in (writer..services.len()).step_by(WRITERS) {
                    cluster.client().create(&parsed(&services.get(number)));
                }
            });
        }
    });
}
