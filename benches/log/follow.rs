//! Those who follow records live while others push: many who read what they are sent, and one who reads nothing.

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use std::io::{self, Read as _, Write as _};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::process::setpriority_process;
use rustix::thread::gettid;

/// The `nice` of who waits for everybody else.
const LEAST_URGENT: i32 = 19;

/// Subscribers of one key; they leave when this value goes.
pub(crate) struct Followers {
    stop: Arc<AtomicBool>,
    bytes: Arc<AtomicU64>,
    reading: Option<JoinHandle<()>>,
    _stalled: std::net::TcpStream,
}

impl Followers {
    /// Subscribes `count` connections that read and one more that does not.
    pub(crate) fn join(server: SocketAddr, key: &str, count: usize) -> io::Result<Self> {
        let mut poll = Poll::new()?;
        let mut streams = Vec::with_capacity(count);
        for index in 0..count {
            let stream = subscribe(server, key)?;
            stream.set_nonblocking(true)?;
            let mut stream = TcpStream::from_std(stream);
            poll.registry().register(&mut stream, Token(index), Interest::READABLE)?;
            streams.push(stream);
        }
        let stalled = subscribe(server, key)?;
        let (stop, bytes) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stopped, read) = (stop.clone(), bytes.clone());
        let reading = std::thread::spawn(move || {
            // It shares a core with the client whose waiting is measured, which must not wait for this.
            let _ = setpriority_process(Some(gettid()), LEAST_URGENT);
            let mut events = Events::with_capacity(1024);
            let mut buffer = vec![0; 64 << 10];
            while !stopped.load(Ordering::Relaxed) {
                if poll.poll(&mut events, Some(Duration::from_millis(50))).is_err() {
                    continue;
                }
                for event in &events {
                    while let Ok(count) = streams[event.token().0].read(&mut buffer) {
                        if count == 0 {
                            break;
                        }
                        read.fetch_add(count as u64, Ordering::Relaxed);
                    }
                }
            }
        });
        Ok(Self { stop, bytes, reading: Some(reading), _stalled: stalled })
    }

    /// Bytes that were read so far.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}

impl Drop for Followers {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(reading) = self.reading.take() {
            reading.join().expect("the readers");
        }
    }
}

/// A connection that has heard that it is subscribed.
fn subscribe(server: SocketAddr, key: &str) -> io::Result<std::net::TcpStream> {
    let mut stream = std::net::TcpStream::connect(server)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    write!(stream, "SUBSCRIBE {key}\r\n")?;
    let confirmed = format!("*3\r\n$9\r\nsubscribe\r\n${}\r\n{key}\r\n:1\r\n", key.len());
    let mut said = vec![0; confirmed.len()];
    stream.read_exact(&mut said)?;
    if said != confirmed.as_bytes() {
        return Err(io::Error::other(String::from_utf8_lossy(&said).into_owned()));
    }
    Ok(stream)
}
