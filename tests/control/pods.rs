//! Pods that really serve: each has a listener on its own address from the moment it is shown as ready until it is deleted,
//! when its connections are cut. A request that comes later fails, as it would.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::kube::Watching;
use crate::support::Stage;

/// Between two looks at what happened to pods.
const LOOK: Duration = Duration::from_millis(5);
/// How long a pod works on a request.
const WORK: Duration = Duration::from_millis(3);

/// The pods of a namespace, served.
pub(crate) struct Pods {
    served: Arc<Mutex<Vec<Served>>>,
    end: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// A request that a pod answered.
#[derive(Clone, Debug)]
pub(crate) struct Served {
    pub(crate) at: Instant,
    /// Which, by its name.
    pub(crate) pod: String,
}

struct Pod {
    end: Arc<AtomicBool>,
    connections: Arc<Mutex<Vec<TcpStream>>>,
    thread: Option<JoinHandle<()>>,
}

// === impl Pods ===

impl Pods {
    pub(crate) fn serve(stage: &Stage) -> Self {
        let watching = stage.cluster.client().watch(&format!("/api/v1/namespaces/{}/pods", stage.namespace));
        let (served, end) = (Arc::default(), Arc::new(AtomicBool::new(false)));
        let thread = std::thread::spawn({
            let (served, end) = (Arc::clone(&served), Arc::clone(&end));
            // It is in the network of pods, as the thread that starts it.
            move || run(&watching, &served, &end)
        });
        Self { served, end, thread: Some(thread) }
    }

    /// Every request that was answered so far.
    pub(crate) fn served(&self) -> Vec<Served> {
        self.served.lock().unwrap().clone()
    }
}

impl Drop for Pods {
    fn drop(&mut self) {
        self.end.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn run(watching: &Watching, served: &Arc<Mutex<Vec<Served>>>, end: &AtomicBool) {
    let (mut pods, mut seen) = (BTreeMap::<String, Pod>::new(), 0);
    while !end.load(Ordering::SeqCst) {
        let events = watching.events();
        for event in events.get(seen..).unwrap_or_default() {
            let name = event["object"]["metadata"]["name"].as_str().unwrap_or_default().to_owned();
            if event["type"] == "DELETED" {
                drop(pods.remove(&name));
            } else if let Some(address) = address_of(&event["object"])
                && !pods.contains_key(&name)
            {
                pods.insert(name.clone(), Pod::start(name, address, Arc::clone(served)));
            }
        }
        seen = events.len();
        std::thread::sleep(LOOK);
    }
}

/// Where a pod listens, once it has an address.
fn address_of(pod: &Value) -> Option<SocketAddr> {
    let ip: IpAddr = pod["status"]["podIP"].as_str()?.parse().ok()?;
    Some(SocketAddr::new(ip, 8080))
}

// === impl Pod ===

impl Pod {
    fn start(name: String, address: SocketAddr, served: Arc<Mutex<Vec<Served>>>) -> Self {
        let listener = TcpListener::bind(address).unwrap_or_else(|e| panic!("{name} at {address}: {e}"));
        listener.set_nonblocking(true).unwrap();
        let (end, connections) = (Arc::new(AtomicBool::new(false)), Arc::<Mutex<Vec<TcpStream>>>::default());
        let thread = std::thread::spawn({
            let (end, connections) = (Arc::clone(&end), Arc::clone(&connections));
            move || {
                while !end.load(Ordering::SeqCst) {
                    match listener.accept() {
                        Ok((stream, _)) => {
                            stream.set_nonblocking(false).unwrap();
                            connections.lock().unwrap().push(stream.try_clone().unwrap());
                            let (name, served) = (name.clone(), Arc::clone(&served));
                            // A client that goes away is its own affair.
                            std::thread::spawn(move || drop(answer(stream, &name, &served)));
                        }
                        Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::sleep(LOOK),
                        Err(error) => panic!("{name}: {error}"),
                    }
                }
            }
        });
        Self { end, connections, thread: Some(thread) }
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        self.end.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        for connection in self.connections.lock().unwrap().iter() {
            let _ = connection.shutdown(Shutdown::Both);
        }
    }
}

fn answer(mut stream: TcpStream, name: &str, served: &Mutex<Vec<Served>>) -> std::io::Result<()> {
    let mut buffer = Vec::new();
    loop {
        while let Some(end) = buffer.windows(4).position(|it| it == b"\r\n\r\n") {
            buffer.drain(..end + 4);
            std::thread::sleep(WORK);
            stream.write_all(format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{name}", name.len()).as_bytes())?;
            served.lock().unwrap().push(Served { at: Instant::now(), pod: name.to_owned() });
        }
        let mut chunk = [0; 4096];
        let read = stream.read(&mut chunk)?;
        if read == 0 {
            return Ok(());
        }
        buffer.extend_from_slice(&chunk[..read]);
    }
}
