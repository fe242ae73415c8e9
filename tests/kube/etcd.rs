//! etcd's own API, spoken over its socket: HTTP and JSON, which it offers beside gRPC.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde_json::{Value, json};

/// Forgets all but the newest version of everything, so that no watch can begin from an older one. Gives the revision.
pub(super) fn compact(socket: &Path) -> String {
    let range = post(socket, "/v3/kv/range", &json!({"key": BASE64_STANDARD.encode("compact"), "count_only": true}));
    let revision = range["header"]["revision"].as_str().unwrap_or_else(|| panic!("no revision: {range}")).to_owned();
    let compacted = post(socket, "/v3/kv/compaction", &json!({"revision": revision, "physical": true}));
    assert!(compacted["header"].is_object(), "{compacted}");
    revision
}

fn post(socket: &Path, path: &str, body: &Value) -> Value {
    let mut stream = UnixStream::connect(socket).unwrap_or_else(|e| panic!("{}: {e}", socket.display()));
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
    let body = body.to_string();
    let length = body.len();
    write!(stream, "POST {path} HTTP/1.0\r\nHost: etcd\r\nContent-Length: {length}\r\n\r\n{body}").expect("etcd reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("etcd answers");
    let (_, object) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {answer}"));
    serde_json::from_str(object).unwrap_or_else(|e| panic!("{e}: {answer}"))
}
