//! A real redis-server, to compare with.

use super::process::Process;
use super::wait::wait_until;
use super::workdir::WorkDir;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::Duration;

/// An empty redis-server without persistence.
pub struct RedisServer {
    address: SocketAddr,
    process: Process,
    directory: WorkDir,
}

impl RedisServer {
    /// Starts one and waits until it accepts connections.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// As [`RedisServer::start`], with further arguments (`--requirepass`, …).
    pub fn start_with(args: &[&str]) -> Self {
        super::require();
        let directory = WorkDir::new("redis");
        let port = super::free_port();
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let mut command = Command::new("redis-server");
        command.args(["--port", &port.to_string(), "--bind", "127.0.0.1"]);
        command.args(["--save", "", "--appendonly", "no", "--dir"]);
        command.arg(directory.path()).args(args);
        let mut process = Process::start(&command, directory.path(), "redis");
        wait_until(Duration::from_secs(20), "a redis-server that answers", || {
            if let Some(status) = process.exited() {
                panic!("redis-server ended while it started: {status}");
            }
            answers(address)
        });
        Self { address, process, directory }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }
}

/// Any reply will do, a demand for a password too. Accepting is not enough: it listens before it has read its users.
fn answers(address: SocketAddr) -> bool {
    let Ok(mut stream) = TcpStream::connect(address) else {
        return false;
    };
    let patience = Some(Duration::from_secs(1));
    stream.set_read_timeout(patience).is_ok()
        && stream.write_all(b"PING\r\n").is_ok()
        && stream.read_exact(&mut [0]).is_ok()
}
