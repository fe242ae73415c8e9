//! Idle keep-alive connections.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

/// Opens so many connections, has one request answered on each, and keeps them.
pub(crate) fn hold(address: SocketAddr, connections: usize) -> Vec<TcpStream> {
    let mut answer = [0; 4096];
    (0..connections)
        .map(|number| {
            let mut stream = TcpStream::connect(address).unwrap_or_else(|e| panic!("connection {number}: {e}"));
            stream.write_all(b"GET /small HTTP/1.1\r\nHost: bench\r\n\r\n").unwrap();
            let mut read = 0;
            while read < crate::backend::SMALL || !answer[..read].ends_with(b"xxxx") {
                let count = stream.read(&mut answer[read..]).unwrap();
                assert!(count > 0, "connection {number} was closed");
                read += count;
            }
            assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer[..read]));
            stream
        })
        .collect()
}
