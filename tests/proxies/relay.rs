//! What stands before Tidegate and lets its bytes through, or says something of its own.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// What a connection meets.
#[derive(Clone, Debug)]
pub(crate) enum Says {
    /// Tidegate.
    Tidegate,
    /// These bytes to every request, then the end of the connection.
    Bytes(Vec<u8>),
    /// Nothing, and the connection stays open.
    Nothing,
}

/// The relay; what it says can change at any time, and open connections end then.
pub(crate) struct Relay {
    pub(crate) address: SocketAddr,
    state: Arc<Mutex<State>>,
}

struct State {
    says: Says,
    open: Vec<TcpStream>,
    met: usize,
}

impl Relay {
    /// Before a server.
    pub(crate) fn before(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State { says: Says::Tidegate, open: Vec::new(), met: 0 }));
        let shared = state.clone();
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let Ok(client) = client else { return };
                let says = {
                    let mut state = shared.lock().unwrap();
                    state.open.push(client.try_clone().unwrap());
                    state.says.clone()
                };
                let shared = shared.clone();
                std::thread::spawn(move || serve(client, server, says, &shared));
            }
        });
        Self { address, state }
    }

    /// Says this from now on. Connections that are open are cut.
    pub(crate) fn say(&self, says: Says) {
        let mut state = self.state.lock().unwrap();
        (state.says, state.met) = (says, 0);
        for connection in state.open.drain(..) {
            let _ = connection.shutdown(Shutdown::Both);
        }
    }

    /// Says an HTTP answer.
    pub(crate) fn answer(&self, status: &str, body: &str) {
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nETag: \"x\"\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        self.say(Says::Bytes(format!("{head}{body}").into_bytes()));
    }

    /// How many requests have met what it says now.
    pub(crate) fn met(&self) -> usize {
        self.state.lock().unwrap().met
    }
}

fn serve(mut client: TcpStream, server: SocketAddr, says: Says, state: &Mutex<State>) {
    let mut request = [0; 16 * 1024];
    match says {
        Says::Tidegate => {
            let Ok(upstream) = TcpStream::connect(server) else { return };
            state.lock().unwrap().open.push(upstream.try_clone().unwrap());
            let (mut to, mut from) = (upstream.try_clone().unwrap(), client.try_clone().unwrap());
            std::thread::spawn(move || {
                let _ = std::io::copy(&mut from, &mut to);
                let _ = to.shutdown(Shutdown::Both);
            });
            let _ = std::io::copy(&mut &upstream, &mut client);
        }
        Says::Bytes(bytes) => {
            if client.read(&mut request).is_ok_and(|read| read > 0) {
                state.lock().unwrap().met += 1;
                let _ = client.write_all(&bytes);
            }
        }
        Says::Nothing => {
            while client.read(&mut request).is_ok_and(|read| read > 0) {
                state.lock().unwrap().met += 1;
            }
        }
    }
    let _ = client.shutdown(Shutdown::Both);
}
