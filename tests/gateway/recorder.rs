//! A back end that notes every byte of every connection, and answers what is unmistakably a request.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::strict::{self, Request};

/// The answer to a request, as bytes; none: the connection is closed without one.
type Answer = dyn Fn(&Request) -> Option<Vec<u8>> + Send + Sync;

/// A running recorder; its threads end with the test process.
pub(crate) struct Recorder {
    pub(crate) address: SocketAddr,
    connections: Arc<Mutex<Vec<Vec<u8>>>>,
}

// === impl Recorder ===

impl Recorder {
    /// Answers each request with success and its target.
    pub(crate) fn start() -> Self {
        Self::answering(|request| Some(ok(&request.target)))
    }

    /// Answers as told.
    pub(crate) fn answering(answer: impl Fn(&Request) -> Option<Vec<u8>> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let connections = Arc::new(Mutex::new(Vec::new()));
        let (kept, answer): (_, Arc<Answer>) = (connections.clone(), Arc::new(answer));
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (kept, answer) = (kept.clone(), answer.clone());
                std::thread::spawn(move || record(stream, &kept, &*answer));
            }
        });
        Self { address, connections }
    }

    /// What every connection has brought so far.
    pub(crate) fn connections(&self) -> Vec<Vec<u8>> {
        lock(&self.connections).clone()
    }

    /// Everything that came, as requests. Panics where anything could be read in two ways.
    pub(crate) fn requests(&self) -> Vec<Request> {
        let read = |bytes: Vec<u8>| {
            strict::parse_all(&bytes)
                .unwrap_or_else(|why| panic!("ambiguous at the back end, {why}: {:?}", String::from_utf8_lossy(&bytes)))
        };
        self.connections().into_iter().flat_map(read).collect()
    }

    /// Forgets what came; connections go on.
    pub(crate) fn forget(&self) {
        lock(&self.connections).iter_mut().for_each(Vec::clear);
    }
}

/// A whole answer with this body.
pub(crate) fn ok(body: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

fn record(mut stream: TcpStream, kept: &Mutex<Vec<Vec<u8>>>, answer: &Answer) {
    let number = {
        let mut kept = lock(kept);
        kept.push(Vec::new());
        kept.len() - 1
    };
    let mut unanswered = Vec::new();
    let mut bytes = [0; 16 << 10];
    let _ = stream.set_read_timeout(Some(Duration::from_secs(60)));
    while let Ok(count @ 1..) = stream.read(&mut bytes) {
        lock(kept)[number].extend_from_slice(&bytes[..count]);
        unanswered.extend_from_slice(&bytes[..count]);
        // What is ambiguous gets no answer: the test finds it in what was noted.
        while let Ok(Some((request, used))) = strict::parse(&unanswered) {
            unanswered.drain(..used);
            let Some(answer) = answer(&request) else { return };
            if stream.write_all(&answer).is_err() {
                return;
            }
        }
    }
}

fn lock(connections: &Mutex<Vec<Vec<u8>>>) -> MutexGuard<'_, Vec<Vec<u8>>> {
    connections.lock().unwrap_or_else(PoisonError::into_inner)
}
