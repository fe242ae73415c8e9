//! An API server that knows pods alone, for what a real one cannot be made to do on time: lists, watches, and falls silent.

use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

#[derive(Default)]
struct State {
    version: u64,
    pods: BTreeMap<String, Value>,
    /// Every event so far, the first of version 1.
    events: Vec<Value>,
    /// Nobody is answered any more.
    silent: bool,
}

/// A running one; its threads end with the test process.
#[derive(Clone)]
pub(super) struct Api {
    address: SocketAddr,
    state: Arc<(Mutex<State>, Condvar)>,
}

/// A pod of node `n1`.
pub(super) fn pod(uid: &str, address: &str, started: &str, labels: &[(&str, &str)]) -> Value {
    let labels: BTreeMap<_, _> = labels.iter().copied().collect();
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": format!("{uid}-pod"), "namespace": "shop", "uid": uid, "labels": labels },
        "spec": { "nodeName": "n1", "containers": [] },
        "status": { "phase": "Running", "hostIP": "127.9.9.9", "podIP": address, "startTime": started },
    })
}

// === impl Api ===

impl Api {
    pub(super) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let api = Self { address: listener.local_addr().unwrap(), state: Arc::default() };
        let server = api.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let server = server.clone();
                // A client that goes away ends its thread.
                std::thread::spawn(move || drop(server.serve(stream)));
            }
        });
        api
    }

    /// A kubeconfig for it.
    pub(super) fn kubeconfig(&self) -> String {
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: t\nclusters: [{{name: t, cluster: {{server: \"http://{}\"}}}}]\n\
             users: [{{name: t, user: {{}}}}]\ncontexts: [{{name: t, context: {{cluster: t, user: t}}}}]\n",
            self.address
        )
    }

    pub(super) fn put(&self, pod: Value) {
        self.tell("MODIFIED", pod);
    }

    pub(super) fn delete(&self, uid: &str) {
        let pod = self.state.0.lock().unwrap().pods[uid].clone();
        self.tell("DELETED", pod);
    }

    /// Ends all watches and answers nobody any more.
    pub(super) fn fall_silent(&self) {
        self.state.0.lock().unwrap().silent = true;
        self.state.1.notify_all();
    }

    fn tell(&self, kind: &str, mut pod: Value) {
        let mut state = self.state.0.lock().unwrap();
        state.version += 1;
        pod["metadata"]["resourceVersion"] = json!(state.version.to_string());
        let uid = pod["metadata"]["uid"].as_str().unwrap().to_owned();
        match kind {
            "DELETED" => drop(state.pods.remove(&uid)),
            _ => drop(state.pods.insert(uid, pod.clone())),
        }
        state.events.push(json!({ "type": kind, "object": pod }));
        self.state.1.notify_all();
    }

    fn serve(&self, mut stream: TcpStream) -> std::io::Result<()> {
        let mut lines = BufReader::new(stream.try_clone()?).lines();
        let request = lines.next().transpose()?.unwrap_or_default();
        for line in lines.map_while(Result::ok) {
            if line.is_empty() {
                break;
            }
        }
        assert!(request.starts_with("GET /api/v1/pods?") && request.contains("spec.nodeName%3Dn1"), "{request}");
        let state = self.state.0.lock().unwrap();
        if state.silent {
            return Ok(());
        }
        let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n";
        if !request.contains("watch=true") {
            let items: Vec<_> = state.pods.values().collect();
            let list = json!({
                "apiVersion": "v1", "kind": "PodList",
                "metadata": { "resourceVersion": state.version.to_string() }, "items": items,
            });
            let list = list.to_string();
            return write!(stream, "{head}content-length: {}\r\n\r\n{list}", list.len());
        }
        write!(stream, "{head}\r\n")?;
        let from = request.split("resourceVersion=").nth(1).unwrap_or_default();
        let from: usize = from.split(['&', ' ']).next().and_then(|number| number.parse().ok()).unwrap();
        let (mut sent, mut state) = (from, state);
        loop {
            for event in &state.events[sent..] {
                writeln!(stream, "{event}")?;
            }
            sent = state.events.len();
            if state.silent {
                return Ok(());
            }
            state = self.state.1.wait_timeout(state, Duration::from_secs(60)).unwrap().0;
        }
    }
}
