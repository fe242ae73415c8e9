//! Ports for servers of the tests.

use std::net::TcpListener;
use std::process::Command;
use std::sync::Mutex;

/// How many ports this process takes from `ports.sh` at a time.
const BLOCK: u16 = 200;

/// A loopback port that nobody listens on and that no other running test process is likely to take.
///
/// It is below the kernel's ephemeral range, so no outgoing connection occupies it before the server binds it. The
/// process draws blocks of ports from a counter that all test processes of this user share.
pub fn free_port() -> u16 {
    static LEFT: Mutex<(u16, u16)> = Mutex::new((0, 0));
    // A test that panicked here has left nothing half done.
    let mut left = LEFT.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    loop {
        if left.0 == left.1 {
            let first = next_block();
            *left = (first, first + BLOCK);
        }
        let port = left.0;
        left.0 += 1;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

fn next_block() -> u16 {
    let output = Command::new(super::source("bed/ports.sh")).arg(BLOCK.to_string()).output().expect("ports.sh starts");
    String::from_utf8_lossy(&output.stdout)
        .trim()
        .parse()
        .unwrap_or_else(|_| panic!("ports.sh: {}", String::from_utf8_lossy(&output.stderr)))
}
