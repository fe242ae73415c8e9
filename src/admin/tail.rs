//! Following records live: `GET /v1/tail?key=KEY&pattern=GLOB`, each as often as wanted, over a WebSocket.
//!
//! A text message is one JSON object: a record, `{"key":"app-web","value":"…"}`, with `value_base64` in place of `value` where
//! the record is not UTF-8; or a notice, `{"skipped":12}`, of records that were not shown because they came too fast or
//! were read too slowly. Nothing is said to the server.
//!
//! Who may read the admin server sees every key. A page from elsewhere may not: a browser names it as the `Origin`.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::{Message, WebSocket};
use axum::extract::{Query, State, WebSocketUpgrade};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::prelude::{BASE64_STANDARD, Engine};
use serde_json::json;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::pages::Sources;
use crate::base::drain::{Drain, Guard};
use crate::intake::live::{Heard, Hub, Kind, Listener};

/// Tails at once.
const TAILS: usize = 64;
/// Between looks for records.
const LOOK: Duration = Duration::from_millis(50);
/// Bytes of records in one go.
const ROOM: usize = 256 << 10;
/// A reader that takes nothing for this long is cut off.
const STALL: Duration = Duration::from_secs(60);
/// A client has nothing to say but that it goes.
const SAID: usize = 4 << 10;

/// What the log plane offers to follow.
#[derive(Clone)]
pub struct Tails {
    hub: Arc<Hub>,
    drain: Drain,
    permits: Arc<Semaphore>,
}

// === impl Tails ===

impl Tails {
    /// Tails of what `hub` hears of, until the drain is requested.
    pub fn new(hub: Arc<Hub>, drain: Drain) -> Self {
        Self { hub, drain, permits: Arc::new(Semaphore::new(TAILS)) }
    }

    fn listener(&self, wanted: &[(String, String)]) -> Result<Listener, &'static str> {
        let mut listener = Listener::new(self.hub.clone());
        for (name, value) in wanted {
            let kind = match name.as_str() {
                "key" => Kind::Channel,
                "pattern" => Kind::Pattern,
                _ => return Err("unknown parameter; key=KEY and pattern=GLOB are known\n"),
            };
            listener.subscribe(kind, value.as_bytes()).map_err(|_| "too many keys for one tail\n")?;
        }
        if wanted.is_empty() {
            return Err("say what to follow: ?key=KEY or ?pattern=GLOB\n");
        }
        Ok(listener)
    }
}

pub(super) async fn tail(
    State(sources): State<Sources>,
    Query(wanted): Query<Vec<(String, String)>>,
    headers: HeaderMap,
    upgrade: WebSocketUpgrade,
) -> Response {
    let Some(tails) = sources.tails else {
        return (StatusCode::NOT_FOUND, "the log plane does not run here\n").into_response();
    };
    if !is_same_origin(&headers) {
        return (StatusCode::FORBIDDEN, "a page from elsewhere may not follow records\n").into_response();
    }
    let Ok(permit) = tails.permits.clone().try_acquire_owned() else {
        return (StatusCode::SERVICE_UNAVAILABLE, "as many tails as there may be are open\n").into_response();
    };
    // Before the answer, so that what is pushed after it is heard.
    let listener = match tails.listener(&wanted) {
        Ok(listener) => listener,
        Err(why) => return (StatusCode::BAD_REQUEST, why).into_response(),
    };
    let guard = tails.drain.guard("live tail");
    let drain = tails.drain;
    upgrade.max_message_size(SAID).on_upgrade(move |socket| follow(socket, listener, drain, (permit, guard)))
}

async fn follow(mut socket: WebSocket, mut listener: Listener, drain: Drain, _held: (OwnedSemaphorePermit, Guard)) {
    let mut looks = tokio::time::interval(LOOK);
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = looks.tick() => {}
            said = socket.recv() => match said {
                Some(Ok(Message::Close(_)) | Err(_)) | None => return,
                Some(Ok(_)) => continue,
            },
            () = drain.requested() => return,
        }
        let mut messages = Vec::new();
        listener.collect(|_| true, ROOM, |heard| messages.extend(message(&heard)));
        for message in messages {
            let sent = tokio::time::timeout(STALL, socket.send(Message::text(message)));
            tokio::select! {
                sent = sent => if !matches!(sent, Ok(Ok(()))) { return },
                () = drain.requested() => return,
            }
        }
    }
}

fn message(heard: &Heard<'_>) -> Option<String> {
    match heard {
        Heard::Message { channel, value, .. } => {
            let key = String::from_utf8_lossy(channel);
            let record = match std::str::from_utf8(value) {
                Ok(text) => json!({ "key": key, "value": text }),
                Err(_) => json!({ "key": key, "value_base64": BASE64_STANDARD.encode(value) }),
            };
            Some(record.to_string())
        }
        Heard::Skipped(count) => Some(json!({ "skipped": count }).to_string()),
        Heard::Command(_) => None,
    }
}

/// Programs name no origin; a browser names the page's.
fn is_same_origin(headers: &HeaderMap) -> bool {
    let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    let Some(origin) = text(header::ORIGIN) else { return true };
    let host = origin.split_once("://").map(|(_, host)| host);
    host.is_some() && host == text(header::HOST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_text_where_it_can_be() {
        let said =
            |value: &[u8]| message(&Heard::Message { kind: Kind::Channel, name: b"k", channel: b"k", value }).unwrap();
        assert_eq!(said("é\"".as_bytes()), r#"{"key":"k","value":"é\""}"#);
        assert_eq!(said(b"\xff"), r#"{"key":"k","value_base64":"/w=="}"#);
        assert_eq!(message(&Heard::Skipped(3)).unwrap(), r#"{"skipped":3}"#);
    }

    #[test]
    fn a_page_from_elsewhere_is_not_let_in() {
        let headers = |origin: Option<&str>| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, "localhost:9900".parse().unwrap());
            if let Some(origin) = origin {
                headers.insert(header::ORIGIN, origin.parse().unwrap());
            }
            headers
        };
        assert!(is_same_origin(&headers(None)) && is_same_origin(&headers(Some("http://localhost:9900"))));
        for foreign in ["http://evil.example", "null", "http://localhost:9901", ""] {
            assert!(!is_same_origin(&headers(Some(foreign))), "{foreign}");
        }
    }
}
