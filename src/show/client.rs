//! A client of the pull API for people: one answer at a time, with what the server says where it is none.

use std::time::Duration;

use hyper::StatusCode;

use super::{ServerOptions, ShowError};
use crate::net::fetch::{Credentials, Fetcher};

/// Longer than any wait that is asked for here.
const PATIENCE: Duration = Duration::from_secs(90);

/// One server.
pub(super) struct Client(Fetcher);

/// An answer.
pub(super) struct Pulled {
    pub(super) server: String,
    pub(super) unchanged: bool,
    pub(super) body: Vec<u8>,
    pub(super) etag: String,
    pub(super) index: String,
    pub(super) state: String,
    pub(super) synced_at: String,
}

// === impl Client ===

impl Client {
    pub(super) fn new(options: ServerOptions) -> Result<Self, ShowError> {
        let ServerOptions { server, token_file, ca_file } = options;
        let credentials = Credentials { token: token_file, ca: ca_file, ..Credentials::default() };
        Ok(Self(Fetcher::new(&server, &credentials).map_err(|error| ShowError::Options(error.to_string()))?))
    }

    /// `GET` of a path; `unchanged` where the server says that the tag is what there is.
    pub(super) async fn pull(&self, path: &str, etag: Option<&str>) -> Result<Pulled, ShowError> {
        let headers: Vec<_> = etag.map(|etag| ("if-none-match", etag)).into_iter().collect();
        let answer = self.0.get(path, &headers, PATIENCE).await;
        let answer = answer.map_err(|error| ShowError::Unreachable(error.to_string()))?;
        let server = self.0.base().to_owned();
        let unchanged = answer.status == StatusCode::NOT_MODIFIED;
        if !unchanged && answer.status != StatusCode::OK {
            let text = String::from_utf8_lossy(&answer.body);
            let said: Option<String> = serde_json::from_str::<serde_json::Value>(&text)
                .ok()
                .and_then(|value| Some(value.get("error")?.as_str()?.to_owned()));
            let text = said.unwrap_or_else(|| text.trim().to_owned());
            return Err(ShowError::Refused { server, status: answer.status.as_u16(), text });
        }
        let header = |name: &str| {
            let value = answer.headers.get(name).and_then(|value| value.to_str().ok());
            value.unwrap_or("-").to_owned()
        };
        Ok(Pulled {
            server,
            unchanged,
            etag: header("etag"),
            index: header("tidegate-index"),
            state: header("tidegate-state"),
            synced_at: header("tidegate-synced-at"),
            body: answer.body.to_vec(),
        })
    }
}
