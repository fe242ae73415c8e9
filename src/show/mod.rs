//! `tidegate pools`: pools as gateways get them, as a table, and their changes as they come.

mod client;
pub mod gateways;
mod table;

use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use self::client::{Client, Pulled};
pub use self::gateways::GatewaysOptions;
use self::table::{changes, list_table, pool_table};
use crate::base::backoff::{Backoff, random};
use crate::kubernetes::policy::RequestMatch;

/// What `pools` is told.
#[derive(Clone, Debug)]
pub struct PoolsOptions {
    /// One pool; else all.
    pub id: Option<String>,
    /// Print each change as it comes.
    pub watch: bool,
    /// Where to pull from.
    pub server: ServerOptions,
}

/// Whom to ask.
#[derive(Clone, Debug)]
pub struct ServerOptions {
    /// Its address.
    pub server: String,
    /// A file with the token to send.
    pub token_file: Option<PathBuf>,
    /// A file with the authority of its certificate, for https.
    pub ca_file: Option<PathBuf>,
}

/// Why it ended.
#[derive(Debug, thiserror::Error)]
pub enum ShowError {
    /// The server's address, or a file with what is shown to it.
    #[error("{0} (see --server, --token-file, --ca-file)")]
    Options(String),
    /// The server could not be asked; trying again may help.
    #[error("{0}")]
    Unreachable(String),
    /// The server's answer is not what was asked for.
    #[error("{server} answers {status}: {text}")]
    Refused {
        /// Who was asked.
        server: String,
        /// HTTP's status code.
        status: u16,
        /// What it says.
        text: String,
    },
    /// Gateways that do not serve what is published.
    #[error("{0} gateways lag")]
    Lagging(usize),
    /// Standard output or the runtime.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// `GET /v1/pools`.
#[derive(Clone, Debug, Default, Deserialize)]
struct List {
    pools: Vec<ListEntry>,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
struct ListEntry {
    id: String,
    etag: String,
    endpoints: usize,
    state: String,
}

/// `GET /v1/pools/ID`.
#[derive(Clone, Debug, Default, Deserialize)]
struct PoolBody {
    #[serde(default)]
    traffic_generation: Option<i64>,
    endpoints: Vec<EndpointBody>,
    #[serde(default)]
    matched: Vec<MatchedBody>,
}

/// What is for some requests alone.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
struct MatchedBody {
    pool: String,
    #[serde(rename = "match")]
    requests: RequestMatch,
    endpoints: Vec<EndpointBody>,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
struct EndpointBody {
    address: String,
    port: u16,
    weight: u32,
    state: String,
    #[serde(default)]
    zone: Option<String>,
    #[serde(default)]
    node: Option<String>,
    #[serde(default)]
    cluster: Option<String>,
    #[serde(default)]
    target: Option<String>,
}

/// How long one question waits for a change.
const WAIT: &str = "wait=60s";

/// Prints what is asked for; with `watch` until Ctrl-C.
pub fn run(options: &PoolsOptions) -> Result<(), ShowError> {
    let client = Client::new(options.server.clone())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        tokio::select! {
            outcome = show(&client, options) => outcome,
            interrupted = tokio::signal::ctrl_c() => Ok(interrupted?),
        }
    })
}

async fn show(client: &Client, options: &PoolsOptions) -> Result<(), ShowError> {
    let path = match &options.id {
        Some(id) => format!("/v1/pools/{id}"),
        None => "/v1/pools".to_owned(),
    };
    let mut last = client.pull(&path, None).await?;
    let mut known = View::read(&last, options.id.as_deref())?;
    print(&known.table(&last))?;
    let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));
    if !options.watch {
        return Ok(());
    }
    loop {
        let pulled = match client.pull(&format!("{path}?{WAIT}"), Some(&last.etag)).await {
            Ok(pulled) => pulled,
            // A gateway keeps what it has on such an error, and so does whoever looks.
            Err(ShowError::Unreachable(_) | ShowError::Refused { status: 429 | 503, .. }) => {
                tokio::time::sleep(backoff.next(random())).await;
                continue;
            }
            Err(error) => return Err(error),
        };
        backoff.reset();
        if pulled.state != last.state {
            print(&format!("state {} → {}, as of {}\n", last.state, pulled.state, pulled.synced_at))?;
        }
        if pulled.unchanged {
            last = Pulled { etag: last.etag, ..pulled };
            continue;
        }
        let now = View::read(&pulled, options.id.as_deref())?;
        print(&known.changes_to(&now))?;
        (known, last) = (now, pulled);
    }
}

/// What was answered is no answer of the pull API.
fn unusable(server: &str, error: &serde_json::Error) -> ShowError {
    ShowError::Unreachable(format!("{server}: not an answer of the pull API: {error}"))
}

fn print(text: &str) -> io::Result<()> {
    let mut output = io::stdout().lock();
    output.write_all(text.as_bytes())?;
    output.flush()
}

/// What was pulled.
enum View {
    All(List),
    One(String, PoolBody),
}

// === impl View ===

impl View {
    fn read(pulled: &Pulled, id: Option<&str>) -> Result<Self, ShowError> {
        let bad = |error| unusable(&pulled.server, &error);
        match id {
            Some(id) => Ok(Self::One(id.to_owned(), serde_json::from_slice(&pulled.body).map_err(bad)?)),
            None => Ok(Self::All(serde_json::from_slice(&pulled.body).map_err(bad)?)),
        }
    }

    fn table(&self, pulled: &Pulled) -> String {
        let head = match self {
            Self::All(list) => format!("{} pools", list.pools.len()),
            Self::One(id, body) => match body.traffic_generation {
                Some(generation) => format!("{id}  traffic generation {generation}"),
                None => id.clone(),
            },
        };
        let head = format!("{head}  {}, as of {}  index {}\n", pulled.state, pulled.synced_at, pulled.index);
        match self {
            Self::All(list) => head + &list_table(&list.pools),
            Self::One(_, body) => {
                let part = |it: &MatchedBody| {
                    format!("requests with {} go to {}\n{}", it.requests, it.pool, pool_table(&it.endpoints))
                };
                head + &pool_table(&body.endpoints) + &body.matched.iter().map(part).collect::<String>()
            }
        }
    }

    fn changes_to(&self, now: &Self) -> String {
        match (self, now) {
            (Self::All(before), Self::All(now)) => changes(
                &before.pools,
                &now.pools,
                |it| it.id.clone(),
                |it| format!("{} {}", it.endpoints, it.state),
                |one, other| (&one.etag, &one.state) == (&other.etag, &other.state),
            ),
            (Self::One(_, before), Self::One(_, now)) => {
                let endpoints = changes(
                    &before.endpoints,
                    &now.endpoints,
                    |it| format!("{}:{}", it.address, it.port),
                    |it| format!("{} weight {} {}", it.state, it.weight, it.target.as_deref().unwrap_or("-")),
                    |one, other| one == other,
                );
                let matched = changes(
                    &before.matched,
                    &now.matched,
                    |it| format!("requests with {}", it.requests),
                    |it| format!("{} endpoints of {}", it.endpoints.len(), it.pool),
                    |one, other| one == other,
                );
                endpoints + &matched
            }
            _ => String::new(),
        }
    }
}
