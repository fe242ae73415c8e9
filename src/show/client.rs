//! A client of the pull API.

use std::time::Duration;

use axum::body::{Body, to_bytes};
use hyper::header::{AUTHORIZATION, ETAG, HeaderValue, IF_NONE_MATCH};
use hyper::{Request, StatusCode, Uri};
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

use super::{PoolsOptions, ShowError};

/// Longer than any wait that is asked for here.
const PATIENCE: Duration = Duration::from_secs(90);
/// The largest answer that is taken.
const MAX_BODY: usize = 256 << 20;

/// One server.
pub(super) struct Client {
    http: HttpClient<HttpConnector, Body>,
    server: String,
    authorization: Option<HeaderValue>,
}

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
    pub(super) fn new(options: &PoolsOptions) -> Result<Self, ShowError> {
        let server = options.server.trim_end_matches('/').to_owned();
        let uri: Option<Uri> = server.parse().ok();
        if !uri.is_some_and(|uri| uri.scheme_str() == Some("http") && uri.host().is_some()) {
            return Err(ShowError::Server(options.server.clone()));
        }
        let authorization = options.token_file.as_ref().map(|path| {
            let bad = |cause: String| ShowError::Token { path: path.clone(), cause };
            let token = std::fs::read_to_string(path).map_err(|error| bad(error.to_string()))?;
            let value = HeaderValue::from_str(&format!("Bearer {}", token.trim()));
            value.map_err(|_| bad("is no token: one line of visible ASCII characters".to_owned()))
        });
        let http = HttpClient::builder(TokioExecutor::new()).build_http();
        Ok(Self { http, server, authorization: authorization.transpose()? })
    }

    /// `GET` of a path; `unchanged` where the server says that the tag is what there is.
    pub(super) async fn pull(&self, path: &str, etag: Option<&str>) -> Result<Pulled, ShowError> {
        let unreachable = |cause: String| ShowError::Unreachable { server: self.server.clone(), cause };
        let mut request = Request::get(format!("{}{path}", self.server));
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        if let Some(etag) = etag {
            request = request.header(IF_NONE_MATCH, etag);
        }
        let request = request.body(Body::empty()).map_err(|error| unreachable(error.to_string()))?;
        let answer = tokio::time::timeout(PATIENCE, async {
            let response = self.http.request(request).await.map_err(|error| {
                let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}"));
                unreachable(format!("{error}{}", cause.unwrap_or_default()))
            })?;
            let (head, body) = response.into_parts();
            let body = to_bytes(Body::new(body), MAX_BODY).await.map_err(|error| unreachable(error.to_string()))?;
            Ok::<_, ShowError>((head, body))
        });
        let (head, body) = answer.await.map_err(|_| unreachable(format!("no answer within {PATIENCE:?}")))??;
        let unchanged = head.status == StatusCode::NOT_MODIFIED;
        if !unchanged && head.status != StatusCode::OK {
            let text = String::from_utf8_lossy(&body);
            let said: Option<String> = serde_json::from_str::<serde_json::Value>(&text)
                .ok()
                .and_then(|value| Some(value.get("error")?.as_str()?.to_owned()));
            let text = said.unwrap_or_else(|| text.trim().to_owned());
            return Err(ShowError::Refused { server: self.server.clone(), status: head.status.as_u16(), text });
        }
        let header = |name: &str| {
            let value = head.headers.get(name).and_then(|value| value.to_str().ok());
            value.unwrap_or("-").to_owned()
        };
        Ok(Pulled {
            server: self.server.clone(),
            unchanged,
            body: body.to_vec(),
            etag: header(ETAG.as_str()),
            index: header("tidegate-index"),
            state: header("tidegate-state"),
            synced_at: header("tidegate-synced-at"),
        })
    }
}
