//! The way of acknowledgements up: what gateways say here is told to the hub that pools come from.
//!
//! An acknowledgement is told soon, those that come within [`GATHER`] together; who merely asked for a pool, every
//! [`ASKED`]. What could not be told is not lost: the next report has the latest of it.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use hyper::StatusCode;
use metrics::{Counter, counter, describe_counter};

use super::api::Api;
use super::relays::News;
use crate::base::backoff::{Backoff, random};
use crate::endpoints::hub::wire::{Report, Verdict};
use crate::endpoints::hub::{HubLink, Upstream};

/// Acknowledgements that come so soon after another go with it.
const GATHER: Duration = Duration::from_millis(50);
/// Between two reports of who asked for what.
const ASKED: Duration = Duration::from_secs(10);
/// Pools in one report.
const MOST: usize = 2_000;
/// For a hub's answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// A hub that refuses is asked again after this: its tokens may be mended.
const REFUSED: Duration = Duration::from_secs(30);

/// What a report came to.
enum Answer {
    Taken(Verdict),
    /// The hub refuses all of it.
    Refused(String),
    /// It is not known whether it was taken.
    Unanswered(String),
}

struct UplinkMetrics {
    told: Counter,
    refused: Counter,
    failed: Counter,
}

/// Tells the hub of a link until the end.
pub(super) async fn run(api: Arc<Api>, mut link: HubLink) {
    let metrics = UplinkMetrics::register();
    let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(10));
    let mut acknowledged = api.gateways.acknowledgements();
    let mut boot: Arc<str> = Arc::default();
    let mut upto = 0;
    loop {
        let upstream = link.upstream.borrow_and_update().clone();
        let pause = match upstream {
            None => ASKED,
            Some(upstream) => {
                // One that does not know what its former life, or another hub, was told.
                if upstream.boot != boot {
                    (boot, upto) = (upstream.boot.clone(), 0);
                }
                let _ = acknowledged.borrow_and_update();
                let news = api.gateways.news(upto, MOST, SystemTime::now());
                match tell(&upstream, &link.name, &news).await {
                    Answer::Taken(verdict) => {
                        let refused = verdict.refused.len() as u64;
                        metrics.refused.increment(refused);
                        metrics.told.increment((news.gateways.len() as u64).saturating_sub(refused));
                        api.gateways.told(&news.gateways, upstream.fetcher.base(), Ok(&verdict), SystemTime::now());
                        backoff.reset();
                        upto = news.upto;
                        if news.gateways.is_empty() { ASKED } else { GATHER }
                    }
                    Answer::Refused(why) => {
                        metrics.refused.increment(news.gateways.len() as u64);
                        tracing::warn!(hub = upstream.fetcher.base(), why, "the hub takes no acknowledgements");
                        api.gateways.told(&news.gateways, upstream.fetcher.base(), Err(&why), SystemTime::now());
                        REFUSED
                    }
                    Answer::Unanswered(why) => {
                        metrics.failed.increment(1);
                        tracing::debug!(hub = upstream.fetcher.base(), why, "acknowledgements were not told");
                        backoff.next(random())
                    }
                }
            }
        };
        tokio::select! {
            () = api.drain.requested() => return,
            changed = link.upstream.changed() => if changed.is_err() { return },
            () = wait(pause, &mut acknowledged) => {}
        }
    }
}

/// Waits for the time, or, where that is long only for want of news, for an acknowledgement.
async fn wait(pause: Duration, acknowledged: &mut tokio::sync::watch::Receiver<u64>) {
    if pause < ASKED || pause == REFUSED {
        return tokio::time::sleep(pause).await;
    }
    tokio::select! {
        () = tokio::time::sleep(pause.mul_f64(0.75 + random() / 4.0)) => {}
        // The sender lives as long as the API does.
        _ = acknowledged.changed() => tokio::time::sleep(GATHER).await,
    }
}

async fn tell(upstream: &Upstream, relay: &str, news: &News) -> Answer {
    if news.gateways.is_empty() {
        return Answer::Taken(Verdict::default());
    }
    let report = Report { relay: relay.to_owned(), gateways: news.gateways.clone() };
    // Numbers and strings only: nothing in it can fail to be written.
    let body = serde_json::to_vec(&report).unwrap_or_default();
    let answer = match upstream.fetcher.post("/v1/relay", body, PATIENCE).await {
        Ok(answer) => answer,
        Err(error) => return Answer::Unanswered(error.to_string()),
    };
    let text = || String::from_utf8_lossy(&answer.body).chars().take(300).collect::<String>();
    match answer.status {
        StatusCode::OK => match serde_json::from_slice(&answer.body) {
            Ok(verdict) => Answer::Taken(verdict),
            Err(error) => Answer::Unanswered(format!("an answer that is none: {error}")),
        },
        status if status.is_client_error() && status != StatusCode::TOO_MANY_REQUESTS => {
            Answer::Refused(format!("the hub says {}: {}", status.as_u16(), text()))
        }
        status => Answer::Unanswered(format!("the hub says {}: {}", status.as_u16(), text())),
    }
}

// === impl UplinkMetrics ===

impl UplinkMetrics {
    fn register() -> Self {
        describe_counter!(
            "tidegate_discovery_acknowledgements_relayed_total",
            "What gateways said and the hub was told: told, refused by it, or failed to be told, by result"
        );
        let relayed =
            |result: &'static str| counter!("tidegate_discovery_acknowledgements_relayed_total", "result" => result);
        Self { told: relayed("told"), refused: relayed("refused"), failed: relayed("failed") }
    }
}
