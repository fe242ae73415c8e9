//! Following one kind of object of an API server: a list, then a watch, for ever.
//!
//! ```text
//! connect ──▶ list ──▶ watch from the list's version ──▶ watch from the last version seen ──▶ …
//!    ▲         │ failed        │ failed: connect anew, watch on           │ 410: the version is forgotten
//!    └─────────┴───────────────┴──────────────────────────────────────────┘ list again
//! ```
//!
//! Each object of a list is cut down to what is kept of it as soon as it is read, and told at once, so that the receiver can
//! compare it with what it has: a large cluster's objects as they are read would take several times the memory of all its
//! pools. Nothing of a list counts before [`Heard::ListEnds`]. The API server is asked to stream it as a watch's initial
//! events, which spares its memory; one that does not know how is asked page by page.
//!
//! Every watch ends after [`WATCH_SECONDS`] at the server's side and is begun anew from where it ended. So a connection
//! on which nothing comes for [`SILENCE`] is known to be half open, or the API server to be frozen; on a healthy one each
//! beginning confirms that what was told is still true.

use std::pin::pin;
use std::time::{Duration, Instant};

use futures_util::{AsyncBufRead, AsyncBufReadExt};
use hyper::Request;
use kube::Client;
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;

use super::end::{Asked, End};
use super::object::{Key, List, Metadata, WatchLine};
use crate::base::backoff::{Backoff, random};
use crate::base::percent::encoded;
use crate::endpoints::interner::Interner;

/// How long the API server is to keep a watch. What is told may be outdated for as long before anybody can know, so it is
/// short: one request in ten seconds for each kind of object is nothing to an API server.
const WATCH_SECONDS: u64 = 10;
/// A watch that is silent for so long, although the server should have ended it, is half open.
const SILENCE: Duration = Duration::from_secs(WATCH_SECONDS + 5);
/// How long a streamed list may take, and between two of its lines: a large cluster's is not ready at once.
const LIST_SECONDS: u64 = 120;
const LIST_SILENCE: Duration = Duration::from_secs(30);
/// A watch that cannot begin from its version may be answered well and say so in its first line, which then comes at once.
const FIRST_LINE: Duration = Duration::from_millis(500);
/// For an answer's head, and for one page of a list.
const ANSWER: Duration = Duration::from_secs(10);
/// Objects a page.
const PAGE: u32 = 500;
/// The longest line of a watch. etcd takes no object beyond 1.5 MiB.
const MAX_LINE: usize = 8 << 20;
/// A watch that lasted so long was a success: the next failure is a first one.
const LASTED: Duration = Duration::from_secs(10);
/// How soon to look again for a kind of object that the API server does not know.
const ABSENT: Duration = Duration::from_secs(20);

/// What is told of the followed objects, of each what is kept of it.
#[derive(Debug)]
pub(super) enum Heard<K> {
    /// A list begins. Whatever was told of another one that has not ended is nothing.
    ListBegins,
    /// The list has this one, as it is now.
    ListHas(K),
    /// The list no longer has this one.
    ListLacks(Key),
    /// There is what the list has and nothing else.
    ListEnds,
    /// New or changed.
    Changed(K),
    /// Gone.
    Deleted(Key),
    /// Nothing new, and what was told is true as of now.
    Contact,
    /// The API server does not know this kind of object, or does not let us see it, and why.
    Absent(String),
    /// What was told may be outdated, and why.
    Lost(String),
}

/// An object as it is read.
pub(super) trait Object: DeserializeOwned + Send + 'static {
    /// What is kept of it.
    type Kept: Send + 'static;

    /// Has what every object has.
    fn metadata(&self) -> &Metadata;

    /// Cuts it down to what is kept of it.
    fn keep(self, strings: &mut Interner) -> Self::Kept;
}

/// One kind of object to follow.
pub(super) struct Follower<T: Object> {
    /// Of the collection, as `/apis/GROUP/VERSION/PLURAL`.
    path: String,
    /// Only objects with this label are wanted; empty for all.
    label: &'static str,
    heard: mpsc::Sender<Heard<T::Kept>>,
    strings: Interner,
}

/// Where the next watch begins: after a list or an event of this version.
type Version = Option<String>;

// === impl Follower ===

impl<T: Object> Follower<T> {
    pub(super) fn new(path: String, heard: mpsc::Sender<Heard<T::Kept>>) -> Self {
        Self { path, label: "", heard, strings: Interner::default() }
    }

    /// Follows only objects with this label: one that loses it is as good as deleted.
    pub(super) fn labelled(self, label: &'static str) -> Self {
        Self { label, ..self }
    }

    /// The rest of a query, after its first parameter.
    fn selector(&self) -> String {
        if self.label.is_empty() { String::new() } else { format!("&labelSelector={}", encoded(self.label)) }
    }

    /// Follows until nobody listens. `connect` makes a client from what is configured, read anew each time, so that
    /// rotated certificates and tokens are found.
    pub(super) async fn run<F: Future<Output = Result<Client, String>>>(mut self, connect: impl Fn() -> F) {
        let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(10));
        let mut version: Version = None;
        let mut can_stream = true;
        loop {
            let began = Instant::now();
            let end = match connect().await {
                Ok(client) => self.follow(&client, &mut version, can_stream).await,
                Err(why) => End::Failed(why),
            };
            if began.elapsed() >= LASTED {
                backoff.reset();
            }
            let (told, wait) = match end {
                End::Deaf => return,
                End::CannotStream => {
                    can_stream = false;
                    continue;
                }
                End::Closed => (None, backoff.next(random())),
                End::Gone => {
                    version = None;
                    (
                        Some(Heard::Lost("the API server no longer has the version that was watched".to_owned())),
                        backoff.next(random()),
                    )
                }
                End::Absent(why) => {
                    // What was there a moment ago may be back in another: an API server that starts does not know all at once.
                    let was_there = version.take().is_some();
                    (Some(Heard::Absent(why)), if was_there { backoff.next(random()) } else { ABSENT })
                }
                End::Failed(why) => (Some(Heard::Lost(why)), backoff.next(random())),
            };
            if let Some(told) = told
                && self.heard.send(told).await.is_err()
            {
                return;
            }
            tokio::time::sleep(wait).await;
        }
    }

    /// Lists if there is no version to watch from, then watches until something is wrong.
    async fn follow(&mut self, client: &Client, version: &mut Version, can_stream: bool) -> End {
        let listed = match version {
            Some(_) => Ok(()),
            None if can_stream => match self.watch(client, version).await {
                End::Closed if version.is_some() => Ok(()),
                End::Closed => Err(End::Failed("the list ended before it was complete".to_owned())),
                end => Err(end),
            },
            None => self.list(client, version).await,
        };
        if let Err(end) = listed {
            return end;
        }
        loop {
            let began = Instant::now();
            match self.watch(client, version).await {
                // A server or something before it that ends every watch at once must not be asked in a tight loop.
                End::Closed if began.elapsed() > Duration::from_secs(1) => {}
                end => return end,
            }
        }
    }

    async fn list(&mut self, client: &Client, version: &mut Version) -> Result<(), End> {
        self.tell(Heard::ListBegins).await?;
        let mut next = String::new();
        loop {
            let path = format!("{}?limit={PAGE}{next}{}", self.path, self.selector());
            let page = tokio::time::timeout(ANSWER, client.request_text(get(&path)?));
            let page = page.await.map_err(|_| End::Failed(format!("no list within {ANSWER:?}")))?;
            let page = page.map_err(|error| End::of(error, Asked::List))?;
            let page: List<T> = serde_json::from_str(&page).map_err(|e| End::Failed(format!("list: {e}")))?;
            for object in page.items {
                let kept = object.keep(&mut self.strings);
                self.tell(Heard::ListHas(kept)).await?;
            }
            if page.metadata.next.is_empty() {
                *version = Some(page.metadata.resource_version);
                return self.tell(Heard::ListEnds).await;
            }
            next = format!("&continue={}", encoded(&page.metadata.next));
        }
    }

    /// One watch. Without a version it begins with a streamed list.
    async fn watch(&mut self, client: &Client, version: &mut Version) -> End {
        match self.watch_lines(client, version).await {
            Ok(()) => End::Closed,
            Err(end) => end,
        }
    }

    async fn watch_lines(&mut self, client: &Client, version: &mut Version) -> Result<(), End> {
        let mut listing = version.is_none();
        // A streamed list is a watch once it has ended, for as long as any other: its end is ours to make.
        let mut over: Option<Instant> = None;
        let (seconds, from) = match version {
            Some(version) => (WATCH_SECONDS, format!("resourceVersion={version}")),
            None => (LIST_SECONDS, "sendInitialEvents=true&resourceVersionMatch=NotOlderThan".to_owned()),
        };
        let selector = self.selector();
        let asked = format!("watch=true&allowWatchBookmarks=true&timeoutSeconds={seconds}&{from}{selector}");
        let path = format!("{}?{asked}", self.path);
        let lines = tokio::time::timeout(ANSWER, client.request_stream(get(&path)?));
        let lines = lines.await.map_err(|_| End::Failed(format!("no answer to a watch within {ANSWER:?}")))?;
        let asked = if listing { Asked::StreamedList } else { Asked::Watch };
        let mut lines = pin!(lines.map_err(|error| End::of(error, asked))?);
        // What was told is true as of a watch's beginning, unless its first line says that the version is gone.
        let mut begun = listing;
        if listing {
            self.tell(Heard::ListBegins).await?;
        }
        let mut line = Vec::new();
        loop {
            let patience = match (listing, begun) {
                (true, _) => LIST_SILENCE,
                (false, true) => SILENCE,
                (false, false) => FIRST_LINE,
            };
            let left = over.map(|over| over.saturating_duration_since(Instant::now()));
            let patience = left.map_or(patience, |left| patience.min(left));
            let read = tokio::time::timeout(patience, read_line(lines.as_mut(), &mut line)).await;
            match read {
                Err(_) if over.is_some() => return Ok(()),
                Err(_) if !begun => {
                    begun = true;
                    self.tell(Heard::Contact).await?;
                    continue;
                }
                Err(_) => return Err(End::Failed(format!("nothing came for {patience:?}: the watch is half open"))),
                Ok(Err(error)) => return Err(End::Failed(format!("the watch broke off: {error}"))),
                Ok(Ok(false)) => return Ok(()),
                Ok(Ok(true)) => begun = true,
            }
            let told: WatchLine<T> =
                serde_json::from_slice(&line).map_err(|error| End::Failed(format!("a watch's line: {error}")))?;
            line.clear();
            match told {
                WatchLine::Error(status) => {
                    return Err(End::of_status(status.code, &status.message, asked));
                }
                // A bookmark within a list says nothing.
                WatchLine::Bookmark(bookmark) if listing && !bookmark.metadata.ends_initial_events() => {}
                WatchLine::Bookmark(bookmark) => {
                    let told = if listing { Heard::ListEnds } else { Heard::Contact };
                    if listing {
                        over = Some(Instant::now() + Duration::from_secs(WATCH_SECONDS));
                    }
                    listing = false;
                    self.tell(told).await?;
                    *version = Some(bookmark.metadata.resource_version);
                }
                WatchLine::Added(object) | WatchLine::Modified(object) => {
                    let reached = object.metadata().resource_version.clone();
                    let kept = object.keep(&mut self.strings);
                    if listing {
                        self.tell(Heard::ListHas(kept)).await?;
                    } else {
                        *version = Some(reached);
                        self.tell(Heard::Changed(kept)).await?;
                    }
                }
                WatchLine::Deleted(object) => {
                    let key = object.metadata().key();
                    if listing {
                        self.tell(Heard::ListLacks(key)).await?;
                    } else {
                        *version = Some(object.metadata().resource_version.clone());
                        self.tell(Heard::Deleted(key)).await?;
                    }
                }
            }
        }
    }

    async fn tell(&self, heard: Heard<T::Kept>) -> Result<(), End> {
        self.heard.send(heard).await.map_err(|_| End::Deaf)
    }
}

fn get(path: &str) -> Result<Request<Vec<u8>>, End> {
    Request::get(path).body(Vec::new()).map_err(|error| End::Failed(format!("{path}: {error}")))
}

/// Reads one line without its end; false at the end of the stream, where half a line is nothing.
async fn read_line(mut lines: std::pin::Pin<&mut impl AsyncBufRead>, line: &mut Vec<u8>) -> std::io::Result<bool> {
    loop {
        let chunk = lines.fill_buf().await?;
        if chunk.is_empty() {
            return Ok(false);
        }
        let end = chunk.iter().position(|byte| *byte == b'\n');
        let taken = end.unwrap_or(chunk.len());
        line.extend_from_slice(chunk.get(..taken).unwrap_or_default());
        lines.consume_unpin(taken + usize::from(end.is_some()));
        if line.len() > MAX_LINE {
            return Err(std::io::Error::other(format!("a line of more than {MAX_LINE} bytes")));
        }
        if end.is_some() {
            return Ok(true);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_line_that_breaks_off_is_no_line() {
        let mut text: &[u8] = b"one\ntwo\nthr";
        let mut found = Vec::new();
        let mut line = Vec::new();
        while read_line(pin!(&mut text), &mut line).await.unwrap() {
            found.push(String::from_utf8(std::mem::take(&mut line)).unwrap());
        }
        assert_eq!(found, ["one", "two"]);
    }

    #[tokio::test]
    async fn a_line_without_end_is_an_error_and_not_endless_memory() {
        let endless = vec![b'x'; MAX_LINE + 1];
        let mut text: &[u8] = &endless;
        assert!(read_line(pin!(&mut text), &mut Vec::new()).await.is_err());
    }
}
