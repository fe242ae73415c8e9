//! An HTTP client for what is asked again and again of one server: bounded in time and size, over TLS where the address
//! says so. Certificates and tokens are files, read when a client is made, so that rotated ones are found.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes, to_bytes};
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use hyper::{Method, Request, StatusCode, Uri};
use hyper_rustls::{FixedServerNameResolver, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::pki_types::ServerName;

use super::tls;

/// For a connection, its TLS included.
const CONNECT: Duration = Duration::from_secs(5);
/// An unused connection is closed after this, before servers would.
const IDLE: Duration = Duration::from_secs(8);
/// The largest answer that is taken.
const MAX_BODY: usize = 256 << 20;

/// What a client shows and trusts, as files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Credentials {
    /// A bearer token.
    pub token: Option<PathBuf>,
    /// The authorities whose servers are trusted; without them there is no `https`.
    pub ca: Option<PathBuf>,
    /// The client's own certificate and its key.
    pub certificate: Option<(PathBuf, PathBuf)>,
    /// The name in the server's certificate, where it is not the address's.
    pub server_name: Option<String>,
}

/// A client of one server.
#[derive(Clone)]
pub struct Fetcher {
    client: Client<HttpsConnector<HttpConnector>, Body>,
    base: String,
    authorization: Option<HeaderValue>,
}

/// An answer, whole.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    /// A file or an address of the configuration; another try helps when it is mended.
    #[error("{0}")]
    Configured(String),
    /// The server could not be reached, broke off, or took too long; another try may help.
    #[error("{0}")]
    Unanswered(String),
}

// === impl Fetcher ===

impl Fetcher {
    /// A client of the server at `base`, as `https://host:port`, with what the files hold now.
    ///
    /// # Errors
    /// A file cannot be read or does not serve, or `base` is no address of a server.
    pub fn new(base: &str, credentials: &Credentials) -> Result<Self, FetchError> {
        let base = base.trim_end_matches('/').to_owned();
        let secure = match base.parse::<Uri>().ok().filter(|uri| uri.host().is_some()) {
            Some(uri) if uri.scheme_str() == Some("https") => true,
            Some(uri) if uri.scheme_str() == Some("http") => false,
            _ => return Err(FetchError::Configured(format!("{base}: is no address: write http://HOST:PORT"))),
        };
        let authorization = credentials.token.as_deref().map(bearer).transpose()?;
        let authorities = match &credentials.ca {
            Some(path) => Some((path, read(path)?)),
            None if secure => return Err(FetchError::Configured(format!("{base}: https needs the authority's file"))),
            None => None,
        };
        let config = match authorities {
            Some((path, authorities)) => tls_config(path, &authorities, credentials)?,
            // Never used: without authorities there is only http.
            None => rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
                .with_safe_default_protocol_versions()
                .map_err(|error| FetchError::Configured(error.to_string()))?
                .with_root_certificates(rustls::RootCertStore::empty())
                .with_no_client_auth(),
        };
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(CONNECT));
        let builder = HttpsConnectorBuilder::new().with_tls_config(config).https_or_http();
        let builder = match &credentials.server_name {
            Some(name) => {
                let name = ServerName::try_from(name.clone())
                    .map_err(|_| FetchError::Configured(format!("{name}: is no name of a server")))?;
                builder.with_server_name_resolver(FixedServerNameResolver::new(name))
            }
            None => builder,
        };
        let connector = builder.enable_http1().wrap_connector(tcp);
        let mut client = Client::builder(TokioExecutor::new());
        client.pool_timer(TokioTimer::new()).pool_idle_timeout(IDLE).pool_max_idle_per_host(1);
        Ok(Self { client: client.build(connector), base, authorization })
    }

    /// The server's address.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// `GET` of a path with further headers, as JSON, whole within `patience`.
    ///
    /// # Errors
    /// No whole answer within this time.
    pub async fn get(
        &self,
        path: &str,
        headers: &[(&'static str, &str)],
        patience: Duration,
    ) -> Result<Fetched, FetchError> {
        self.send(Method::GET, path, headers, Body::empty(), patience).await
    }

    /// `POST` of JSON to a path, answered within `patience`.
    ///
    /// # Errors
    /// No whole answer within this time. It may have been taken all the same.
    pub async fn post(&self, path: &str, body: Vec<u8>, patience: Duration) -> Result<Fetched, FetchError> {
        let headers = [(CONTENT_TYPE.as_str(), "application/json")];
        self.send(Method::POST, path, &headers, body.into(), patience).await
    }

    /// `PUT` of nothing to a path, answered within `patience`.
    ///
    /// # Errors
    /// No whole answer within this time. It may have been taken all the same.
    pub async fn put(&self, path: &str, patience: Duration) -> Result<Fetched, FetchError> {
        self.send(Method::PUT, path, &[], Body::empty(), patience).await
    }

    /// `DELETE` of a path, answered within `patience`.
    ///
    /// # Errors
    /// No whole answer within this time. It may have been done all the same.
    pub async fn delete(&self, path: &str, patience: Duration) -> Result<Fetched, FetchError> {
        self.send(Method::DELETE, path, &[], Body::empty(), patience).await
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Body,
        patience: Duration,
    ) -> Result<Fetched, FetchError> {
        let unanswered = |cause: String| FetchError::Unanswered(format!("{}: {cause}", self.base));
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.base));
        request = request.header(ACCEPT, "application/json");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        let request = request.body(body).map_err(|error| FetchError::Configured(format!("{}: {error}", self.base)))?;
        let whole = tokio::time::timeout(patience, async {
            let response = self.client.request(request).await.map_err(|error| unanswered(flat(&error)))?;
            let (head, body) = response.into_parts();
            // An answer that is cut is none: its length, or the last of its chunks, is missing.
            let body = to_bytes(Body::new(body), MAX_BODY).await.map_err(|error| unanswered(flat(&error)))?;
            Ok(Fetched { status: head.status, headers: head.headers, body })
        });
        whole.await.map_err(|_| unanswered(format!("no answer within {} s", patience.as_secs())))?
    }
}

impl std::fmt::Debug for Fetcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The token stays out of logs and panics.
        f.debug_struct("Fetcher").field("base", &self.base).finish_non_exhaustive()
    }
}

fn tls_config(path: &Path, authorities: &[u8], credentials: &Credentials) -> Result<rustls::ClientConfig, FetchError> {
    let identity = match &credentials.certificate {
        Some((certificate, key)) => Some((read(certificate)?, read(key)?)),
        None => None,
    };
    let identity = identity.as_ref().map(|(chain, key)| (chain.as_slice(), key.as_slice()));
    tls::client(authorities, identity).map_err(|error| {
        let file = match (&error, &credentials.certificate) {
            (tls::TlsError::Certificate(_), Some((certificate, _))) => certificate,
            (tls::TlsError::Key(_), Some((_, key))) => key,
            _ => path,
        };
        FetchError::Configured(format!("{}: {error}", file.display()))
    })
}

fn read(path: &Path) -> Result<Vec<u8>, FetchError> {
    std::fs::read(path).map_err(|error| FetchError::Configured(format!("{}: cannot be read: {error}", path.display())))
}

fn bearer(path: &Path) -> Result<HeaderValue, FetchError> {
    let text = read(path)?;
    let token = String::from_utf8_lossy(&text);
    let mut value = HeaderValue::from_str(&format!("Bearer {}", token.trim()))
        .ok()
        .filter(|_| !token.trim().is_empty())
        .ok_or_else(|| FetchError::Configured(format!("{}: holds no token: one line of ASCII", path.display())))?;
    value.set_sensitive(true);
    Ok(value)
}

/// An error with its causes, each said once.
pub(crate) fn flat(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(base: &str, credentials: &Credentials) -> String {
        Fetcher::new(base, credentials).map(|_| ()).unwrap_err().to_string()
    }

    #[test]
    fn what_the_files_lack_is_said_with_the_file_and_without_the_token() {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = directory.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let (empty, token) = (file("empty", "\n"), file("token", "geheim\u{7f}x"));
        let none = Credentials::default();
        assert!(refused("hub:8500", &none).contains("http://HOST:PORT"));
        assert!(refused("https://hub:8500", &none).contains("authority"));
        let with = |path: &PathBuf| Credentials { token: Some(path.clone()), ..none.clone() };
        assert!(refused("http://hub:8500", &with(&empty)).contains("empty: holds no token"));
        let said = refused("http://hub:8500", &with(&token));
        assert!(said.contains("token: holds no token") && !said.contains("geheim"), "{said}");
        let ca = Credentials { ca: Some(empty), ..none };
        assert!(refused("https://hub:8500", &ca).contains("holds no certificate"));
    }
}
