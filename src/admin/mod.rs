//! Health, metrics, debug dumps and the web page, over HTTP.
//!
//! | path | answers | open |
//! |---|---|---|
//! | `/livez` | 200 while the process runs | yes |
//! | `/readyz`, `/readyz/PLANE` | what is awaited as JSON; 503 until nothing is | yes |
//! | `/metrics` | Prometheus' text | yes |
//! | `/v1/tail` | records as they are taken in, over a WebSocket ([`tail`]) | with a token |
//! | `/debug/log` | the log plane's state as JSON | with a token |
//! | `/debug/pools` | the traffic plane's sources, pools and gateways as JSON | with a token |
//! | `POST /v1/reload` | reads the configuration again, and says what came of it ([`reload`]) | with a token |
//! | `/` | a page that shows it | with a token |
//!
//! Without tokens, what is not open is for peers on loopback ([`access`]).

mod access;
pub mod config;
mod pages;
mod reload;
mod server;
mod tail;

pub use pages::{DebugDump, Sources};
pub use reload::{Asked, Reloaded, Reloads};
pub use server::{AdminError, AdminServer};
pub use tail::Tails;
