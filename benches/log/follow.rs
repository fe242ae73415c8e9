//! Those who follow records live while others push: many who read what they are sent, and one who reads nothing.
//!
//! Elsewhere they are on other machines. Here the core of the client whose waiting is measured has no time left, at half
//! load neither: what stands for Kafka answers at once and gets the next batch at once. Whoever else ran there would be
//! measured as waiting, and not the server. So they take what is left of the server's core, which at half load is half of
//! it, and cost that as little as they can: they look at their connections in turn and not at each wake, and have the
//! kernel throw away what came instead of copying it.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::net::{RecvFlags, recv};
use rustix::thread::{CpuSet, sched_setaffinity};
use thread_priority::{
    NormalThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy, set_thread_priority_and_policy, thread_native_id,
};

use crate::system::Pinning;

/// How many connections are looked at together, and the pause after them: 1 000 are through within 50 ms.
const TOGETHER: usize = 100;
const PAUSE: Duration = Duration::from_millis(5);
/// The most that is thrown away at once.
const DISCARD: usize = 1 << 20;

/// Subscribers of one key; they leave when this value goes.
pub(crate) struct Followers {
    /// They read for as long as this is there.
    stop: Option<SyncSender<()>>,
    bytes: Arc<AtomicU64>,
    reading: Option<JoinHandle<()>>,
    _stalled: TcpStream,
}

impl Followers {
    /// Subscribes `count` connections that read and one more that does not.
    pub(crate) fn join(server: SocketAddr, key: &str, count: usize, pinning: Pinning) -> io::Result<Self> {
        let streams: Vec<TcpStream> = (0..count).map(|_| subscribe(server, key)).collect::<io::Result<_>>()?;
        let stalled = subscribe(server, key)?;
        let (stop, pause) = sync_channel(0);
        let bytes = Arc::new(AtomicU64::new(0));
        let read = bytes.clone();
        let reading = std::thread::spawn(move || {
            wait_for_everybody(pinning);
            // Nothing is written to it: by this flag a stream's bytes are only counted (tcp(7), "MSG_TRUNC").
            let mut nothing = vec![0; DISCARD];
            let flags = RecvFlags::TRUNC | RecvFlags::DONTWAIT;
            loop {
                for some in streams.chunks(TOGETHER) {
                    for stream in some {
                        while let Ok((_, count)) = recv(stream, nothing.as_mut_slice(), flags) {
                            if count == 0 {
                                break;
                            }
                            read.fetch_add(count as u64, Ordering::Relaxed);
                        }
                    }
                    if pause.recv_timeout(PAUSE) == Err(RecvTimeoutError::Disconnected) {
                        return;
                    }
                }
            }
        });
        Ok(Self { stop: Some(stop), bytes, reading: Some(reading), _stalled: stalled })
    }

    /// Bytes that were read so far.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}

impl Drop for Followers {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(reading) = self.reading.take() {
            reading.join().expect("the readers");
        }
    }
}

/// Has the calling thread run on the server's core, while nobody else wants to run there.
fn wait_for_everybody(pinning: Pinning) {
    if let Pinning::Split { server, .. } = pinning {
        let mut core = CpuSet::new();
        core.set(server);
        sched_setaffinity(None, &core).expect("the server's core");
    }
    // Anybody who wakes takes the core from such a thread at once, as from none that is only nice.
    let idle = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle);
    set_thread_priority_and_policy(thread_native_id(), ThreadPriority::Min, idle).expect("the policy of idle threads");
}

/// A connection that has heard that it is subscribed.
fn subscribe(server: SocketAddr, key: &str) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect(server)?;
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
