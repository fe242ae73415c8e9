//! librdkafka's mock cluster as the sink: this program started again as a process of its own.
//!
//! The mock keeps 5 MiB a partition and forgets what is older, so that it can take any number of records; its end offsets
//! tell how many have come.

use crate::bed::process::Process;
use crate::bed::{WorkDir, wait_for};
use rdkafka::mocking::MockCluster;
use std::os::fd::{BorrowedFd, IntoRawFd as _, RawFd};
use std::process::Command;
use std::time::Duration;

/// The hidden argument that makes this program the mock cluster.
pub(crate) const ARGUMENT: &str = "--serve-mock";

/// A running mock cluster.
pub(crate) struct Mock {
    bootstrap: String,
    _process: Process,
    _directory: WorkDir,
}

impl Mock {
    /// Starts one with these topics.
    pub(crate) fn start(topics: &[(&str, i32)]) -> Self {
        let directory = WorkDir::new("mock");
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.arg(ARGUMENT).args(topics.iter().map(|(name, partitions)| format!("{name}={partitions}")));
        let process = Process::start(&command, directory.path(), "mock");
        let bootstrap = wait_for(Duration::from_secs(10), "the mock cluster's address", || {
            let said = String::from_utf8(process.stdout()).ok()?;
            said.strip_suffix('\n').map(str::to_owned)
        });
        Self { bootstrap, _process: process, _directory: directory }
    }

    pub(crate) fn bootstrap(&self) -> &str {
        &self.bootstrap
    }
}

/// Is the mock cluster until it is killed. Arguments: `TOPIC=PARTITIONS…`
pub(crate) fn serve(topics: impl Iterator<Item = String>) -> ! {
    let cluster = MockCluster::new(1).unwrap();
    for topic in topics {
        let (name, partitions) = topic.split_once('=').unwrap();
        cluster.create_topic(name, partitions.parse().unwrap(), 1).unwrap();
    }
    println!("{}", cluster.bootstrap_servers());
    loop {
        std::thread::park();
    }
}

/// Takes the place of libc's `accept`, which librdkafka's mock calls (Rust's libraries call `accept4`), to set TCP_NODELAY
/// on what is accepted. The mock never does, and with more than one request in flight Nagle's algorithm and delayed
/// acknowledgements stall it for 44 ms: the bench would measure that.
#[unsafe(no_mangle)]
#[allow(unsafe_code, reason = "librdkafka's mock cannot be told to set TCP_NODELAY in any other way")]
extern "C" fn accept(listener: RawFd, address: *mut u8, length: *mut u32) -> RawFd {
    // SAFETY: the caller of `accept` owns a descriptor that stays open during the call.
    let listener = unsafe { BorrowedFd::borrow_raw(listener) };
    let Ok((socket, peer)) = socket2::SockRef::from(&listener).accept() else {
        // errno is as the system call left it.
        return -1;
    };
    let _ = socket.set_tcp_nodelay(true);
    if !address.is_null() && !length.is_null() {
        // SAFETY: by the contract of `accept`, `length` holds the size of what `address` points to. No more than that is
        // written, from a value that is at least `peer.len()` long; both live on this side and cannot overlap.
        unsafe {
            let room = usize::try_from(*length).unwrap_or(0);
            let known = usize::try_from(peer.len()).unwrap_or(0);
            std::ptr::copy_nonoverlapping(peer.as_ptr().cast::<u8>(), address, room.min(known));
            *length = peer.len();
        }
    }
    socket.into_raw_fd()
}
