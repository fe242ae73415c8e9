//! Gateways that serve every App: they follow what changes, say what they serve of it, and ask for each pool well within the minute in which
//! who asked is waited for.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::bed::http;

/// Between two times at which it asks for all that it serves.
const ASKS: Duration = Duration::from_secs(25);
/// Pools that are asked for in one request.
const TOGETHER: usize = 200;

/// Some of them, until they are dropped.
pub(crate) struct Gateways {
    end: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

/// One of them.
struct Gateway {
    name: String,
    pools: SocketAddr,
    /// What it serves.
    serves: BTreeSet<String>,
    /// Up to where it has followed.
    index: Option<String>,
    /// When it last asked for all of it.
    asked: Instant,
}

impl Gateways {
    /// So many that pull from this data plane.
    pub(crate) fn start(pools: SocketAddr, count: usize) -> Self {
        let end = Arc::new(AtomicBool::new(false));
        let thread = |number| {
            let name = format!("edge-{number}");
            let mut gateway = Gateway { name, pools, serves: BTreeSet::new(), index: None, asked: Instant::now() };
            let end = Arc::clone(&end);
            std::thread::spawn(move || {
                while !end.load(Ordering::SeqCst) {
                    gateway.follow();
                }
            })
        };
        let threads = (0..count).map(thread).collect();
        Self { end, threads }
    }
}

impl Drop for Gateways {
    fn drop(&mut self) {
        self.end.store(true, Ordering::SeqCst);
        self.threads.drain(..).for_each(|thread| drop(thread.join()));
    }
}

impl Gateway {
    /// Waits a moment for what changes, and says that it serves it.
    fn follow(&mut self) {
        let since = self.index.as_ref().map_or_else(String::new, |index| format!("&since={index}"));
        let Ok(answer) = http::get(self.pools, &format!("/v1/delta?prefix=app/&wait=1s{since}")) else { return };
        if answer.status != 200 {
            self.index = None;
            return;
        }
        let delta: Value = serde_json::from_slice(&answer.body).expect("JSON");
        self.index = delta["index"].as_str().map(str::to_owned);
        for gone in delta["removed"].as_array().into_iter().flatten() {
            self.serves.remove(gone.as_str().unwrap());
        }
        let changed = delta["changed"].as_array().unwrap();
        let of = |pool: &Value| Some((pool["id"].as_str()?.to_owned(), pool["traffic_generation"].clone()));
        let applied: serde_json::Map<String, Value> = changed.iter().filter_map(of).collect();
        let new: Vec<String> = applied.keys().filter(|id| !self.serves.contains(*id)).cloned().collect();
        self.ask(&new);
        self.serves.extend(new);
        if !applied.is_empty() {
            let ack = json!({"gateway": self.name, "applied": applied}).to_string();
            let answer = http::request(self.pools, "POST", "/v1/ack", "", &ack).expect("an answer");
            assert_eq!(answer.status, 204, "{}", answer.text());
        }
        if self.asked.elapsed() > ASKS {
            self.asked = Instant::now();
            self.ask(&self.serves.iter().cloned().collect::<Vec<_>>());
        }
    }

    fn ask(&self, pools: &[String]) {
        for some in pools.chunks(TOGETHER) {
            let ids: Vec<String> = some.iter().map(|id| format!("id={id}")).collect();
            let own = format!("tidegate-gateway: {}\r\n", self.name);
            // Not while sources are not known; it asks again.
            let _ = http::get_with(self.pools, &format!("/v1/pools?{}", ids.join("&")), &own);
        }
    }
}
