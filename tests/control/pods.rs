//! Pods that really serve: each has a listener on its own address from the moment it is shown as ready until it is deleted,
//! when its connections are cut. A request that comes later fails, as it would.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::Value;

use crate::kube::Watching;
use crate::support::Stage;

/// Between two looks at what happened to pods.
const LOOK: Duration = Duration::from_millis(5);
/// How long a pod works on a request.
const WORK: Duration = Duration::from_millis(3);

/// The pods of a namespace, served.
pub(crate) struct Pods {
    end: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// Somebody who serves at one address, under a name.
pub(crate) struct Pod {
    address: SocketAddr,
    end: Arc<AtomicBool>,
    connections: Arc<Mutex<Vec<TcpStream>>>,
    thread: Option<JoinHandle<()>>,
}

// === impl Pods ===

impl Pods {
    pub(crate) fn serve(stage: &Stage) -> Self {
        let watching = stage.cluster.client().watch(&format!("/api/v1/namespaces/{}/pods", stage.namespace));
        let end = Arc::new(AtomicBool::new(false));
        let thread = std::thread::spawn({
            let end = Arc::clone(&end);
            // It is in the network of pods, as the thread that starts it.
            move || run(&watching, &end)
        });
        Self { end, thread: Some(thread) }
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

fn run(watching: &Watching, end: &AtomicBool) {
    let (mut pods, mut seen) = (BTreeMap::<String, Pod>::new(), 0);
    while !end.load(Ordering::SeqCst) {
        let events = watching.after(seen);
        seen += events.len();
        for event in events {
            let name = event["object"]["metadata"]["name"].as_str().unwrap_or_default().to_owned();
            if event["type"] == "DELETED" {
                drop(pods.remove(&name));
            } else if let Some(address) = address_of(&event["object"])
                && !pods.contains_key(&name)
            {
                pods.insert(name.clone(), Pod::start(name, address));
            }
        }
        pace(LOOK);
    }
}

/// Lets time pass: a pod's work, a client's pace, between two looks at what happened.
#[expect(clippy::disallowed_methods, reason = "the pace of a load and of who serves it: nothing is awaited by it")]
pub(crate) fn pace(time: Duration) {
    std::thread::sleep(time);
}

/// Where a pod listens, once it has an address.
fn address_of(pod: &Value) -> Option<SocketAddr> {
    let ip: IpAddr = pod["status"]["podIP"].as_str()?.parse().ok()?;
    Some(SocketAddr::new(ip, 8080))
}

// === impl Pod ===

impl Pod {
    /// In the network of pods; it serves until this value goes.
    pub(crate) fn start(name: String, address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).unwrap_or_else(|e| panic!("{name} at {address}: {e}"));
        let (end, connections) = (Arc::new(AtomicBool::new(false)), Arc::<Mutex<Vec<TcpStream>>>::default());
        let thread = std::thread::spawn({
            let (end, connections) = (Arc::clone(&end), Arc::clone(&connections));
            move || {
                while let Ok((stream, _)) = listener.accept()
                    && !end.load(Ordering::SeqCst)
                {
                    connections.lock().unwrap().push(stream.try_clone().unwrap());
                    let name = name.clone();
                    // A client that goes away is its own affair.
                    std::thread::spawn(move || drop(answer(stream, &name)));
                }
            }
        });
        Self { address, end, connections, thread: Some(thread) }
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        self.end.store(true, Ordering::SeqCst);
        // So that it looks.
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        for connection in self.connections.lock().unwrap().iter() {
            let _ = connection.shutdown(Shutdown::Both);
        }
    }
}

fn answer(mut stream: TcpStream, name: &str) -> std::io::Result<()> {
    let mut buffer = Vec::new();
    loop {
        while let Some(end) = buffer.windows(4).position(|it| it == b"\r\n\r\n") {
            buffer.drain(..end + 4);
            pace(WORK);
            stream.write_all(format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{name}", name.len()).as_bytes())?;
        }
        let mut chunk = [0; 4096];
        let read = stream.read(&mut chunk)?;
        if read == 0 {
            return Ok(());
        }
        buffer.extend_from_slice(&chunk[..read]);
    }
}
