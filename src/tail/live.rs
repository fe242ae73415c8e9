//! Records as a running Tidegate takes them in, over its admin server's WebSocket (see `admin::tail` for the messages).

use std::io;
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use base64::prelude::{BASE64_STANDARD, Engine};
use serde_json::Value;
use tokio::sync::oneshot;
use tungstenite::client::IntoClientRequest;
use tungstenite::http::HeaderValue;
use tungstenite::{Error as WebSocketError, HandshakeError, Message, WebSocket};

use super::filter::Filter;
use super::print::Printer;
use super::{RunningView, TailError, is_closed};
use crate::base::percent::encoded;

/// How long a read may last before the wish to end is looked at.
const TURN: Duration = Duration::from_millis(200);
/// Between attempts to connect.
const RETRY: Duration = Duration::from_secs(1);

/// What `tidegate tail --live` is asked for.
#[derive(Clone, Debug)]
pub struct LiveOptions {
    /// The Redis key or channel; one with `*`, `?` or `[` is a glob.
    pub key: String,
    /// The admin server, `http://HOST:PORT`.
    pub server: String,
    /// What it asks others than its own machine for.
    pub token: Option<String>,
    /// Which records are shown.
    pub filter: Filter,
    /// End after this many records.
    pub count: Option<u64>,
}

/// Reads a token from its file.
///
/// # Errors
/// The file cannot be read.
pub fn read_token(file: &Path) -> io::Result<String> {
    Ok(std::fs::read_to_string(file)?.trim().to_owned())
}

/// The view of one key.
struct View {
    options: LiveOptions,
    printer: Printer,
    left: u64,
    told: bool,
}

/// Starts following on a thread of its own, because the socket blocks.
pub(super) fn spawn(options: LiveOptions) -> Result<RunningView, TailError> {
    let request = request(&options)?;
    let stop = Arc::new(AtomicBool::new(false));
    let (sender, outcome) = oneshot::channel();
    let stopped = Arc::clone(&stop);
    let left = options.count.unwrap_or(u64::MAX);
    let mut view = View { options, printer: Printer::values(), left, told: false };
    thread::Builder::new().name("tail".to_owned()).spawn(move || {
        let ended = view.run(&request, &stopped);
        // Nobody waits any more where a stop was not in time.
        let _ = sender.send(ended);
    })?;
    Ok(RunningView { stop, outcome })
}

/// Where and how to ask.
struct Ask {
    /// `HOST:PORT`.
    address: String,
    request: tungstenite::handshake::client::Request,
}

fn request(options: &LiveOptions) -> Result<Ask, TailError> {
    let bad = || TailError::Server(options.server.clone());
    let address = options.server.strip_prefix("http://").ok_or_else(bad)?.trim_end_matches('/').to_owned();
    let parameter = if options.key.contains(['*', '?', '[']) { "pattern" } else { "key" };
    let url = format!("ws://{address}/v1/tail?{parameter}={}", encoded(&options.key));
    let mut request = url.into_client_request().map_err(|_| bad())?;
    if let Some(token) = &options.token {
        let value = HeaderValue::from_str(&format!("Bearer {token}")).map_err(|_| TailError::Token)?;
        request.headers_mut().insert("Authorization", value);
    }
    Ok(Ask { address, request })
}

// === impl View ===

impl View {
    /// Follows until told to stop, or as many records were shown as wanted; a server that is away is tried again.
    fn run(&mut self, ask: &Ask, stop: &AtomicBool) -> Result<(), TailError> {
        while self.left > 0 && !stop.load(Ordering::Relaxed) {
            match connect(ask) {
                Ok(mut socket) => {
                    self.told = false;
                    if self.follow(&mut socket, stop)? {
                        return Ok(());
                    }
                    self.away("closed the connection");
                }
                Err(Away::Refused(status, why)) => return Err(TailError::Refused(status, why)),
                Err(Away::Gone(why)) => self.away(&why),
            }
            self.wait(stop);
        }
        Ok(())
    }

    /// Said once until it is there again.
    fn away(&mut self, why: &str) {
        if !std::mem::replace(&mut self.told, true) {
            eprintln!("tidegate: {} {why}; trying again", self.options.server);
        }
    }

    fn wait(&self, stop: &AtomicBool) {
        let mut waited = Duration::ZERO;
        while waited < RETRY && !stop.load(Ordering::Relaxed) {
            thread::park_timeout(TURN);
            waited += TURN;
        }
    }

    /// True where nothing more is wanted, or can be shown.
    fn follow(&mut self, socket: &mut WebSocket<TcpStream>, stop: &AtomicBool) -> Result<bool, TailError> {
        while self.left > 0 && !stop.load(Ordering::Relaxed) {
            let written = match socket.read() {
                Ok(Message::Text(text)) => self.show(text.as_str()),
                Ok(Message::Close(_)) => return Ok(false),
                Ok(_) => Ok(()),
                Err(WebSocketError::Io(error))
                    if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) =>
                {
                    self.printer.flush()
                }
                Err(_) => return Ok(false),
            };
            if is_closed(&written) {
                return Ok(true);
            }
            written.map_err(TailError::Output)?;
        }
        let flushed = self.printer.flush();
        if is_closed(&flushed) { Ok(true) } else { flushed.map_err(TailError::Output).map(|()| true) }
    }

    fn show(&mut self, message: &str) -> io::Result<()> {
        let Ok(Value::Object(message)) = serde_json::from_str(message) else { return Ok(()) };
        let text = |name: &str| message.get(name).and_then(Value::as_str);
        if let Some(count) = message.get("skipped") {
            self.printer.flush()?;
            eprintln!("tidegate: {count} records were not shown: they came faster than they are copied or read");
            return Ok(());
        }
        let value = match (text("value"), text("value_base64")) {
            (Some(value), _) => value.as_bytes().to_vec(),
            (None, Some(encoded)) => BASE64_STANDARD.decode(encoded).unwrap_or_default(),
            (None, None) => return Ok(()),
        };
        if !self.options.filter.takes(&value) {
            return Ok(());
        }
        self.left -= 1;
        self.printer.print_live(text("key").unwrap_or_default(), &value)?;
        if self.left == 0 { self.printer.flush() } else { Ok(()) }
    }
}

/// Why there is no connection.
enum Away {
    /// The server answered with this status: asking again does not help.
    Refused(u16, String),
    Gone(String),
}

fn connect(ask: &Ask) -> Result<WebSocket<TcpStream>, Away> {
    let gone = |error: io::Error| Away::Gone(format!("does not answer: {error}"));
    let stream = TcpStream::connect(&ask.address).map_err(gone)?;
    // The handshake has longer than a turn; it is what tells a wrong token.
    stream.set_read_timeout(Some(Duration::from_secs(10))).map_err(gone)?;
    match tungstenite::client(ask.request.clone(), stream) {
        Ok((socket, _)) => {
            socket.get_ref().set_read_timeout(Some(TURN)).map_err(gone)?;
            Ok(socket)
        }
        Err(HandshakeError::Failure(WebSocketError::Http(response))) => {
            let body = response.body().as_deref().map(String::from_utf8_lossy).unwrap_or_default();
            Err(Away::Refused(response.status().as_u16(), body.trim().to_owned()))
        }
        Err(error) => Err(Away::Gone(format!("does not speak as it should: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(key: &str, server: &str) -> Result<String, TailError> {
        let options =
            LiveOptions { key: key.into(), server: server.into(), token: None, filter: Filter::default(), count: None };
        request(&options).map(|ask| ask.request.uri().to_string())
    }

    #[test]
    fn a_key_becomes_a_parameter_and_a_glob_another() {
        assert_eq!(asked("app web&é", "http://h:1/").unwrap(), "ws://h:1/v1/tail?key=app%20web%26%C3%A9");
        assert_eq!(asked("app-*", "http://h:1").unwrap(), "ws://h:1/v1/tail?pattern=app-%2A");
    }

    #[test]
    fn a_server_that_is_no_http_address_is_refused() {
        for bad in ["h:1", "https://h:1", "http:// :x"] {
            assert!(matches!(asked("k", bad), Err(TailError::Server(_))), "{bad}");
        }
    }
}
