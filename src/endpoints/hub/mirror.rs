//! What a relay has of its hub, and what follows from each answer. Pure.
//!
//! A whole answer becomes a list, which the registry's guards look at; what changed since the last answer of the same
//! life of the hub is live, and is honoured as it is. Whenever the hub has come to know a source's pools, or no longer
//! does, everything is listed anew: what a source says for the first time is a list there as well.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::wire::{Delta, List, RelayPart, content_tag};
use crate::endpoints::hosts::{Claimants, HostPath};
use crate::endpoints::pool::{PoolContent, PoolId};
use crate::endpoints::update::{SourceEvent, Update, Watched};

/// Pools that are asked for one by one; for more of them, all are.
const MAX_NAMED: usize = 1_000;

/// The pools of the hub as they were told last.
#[derive(Debug, Default)]
pub(super) struct Mirror {
    pools: BTreeMap<PoolId, Known>,
    /// `BOOT:REVISION` as of which they are complete.
    index: Option<String>,
    /// The hub's sources that have told it their pools.
    loaded: BTreeSet<Arc<str>>,
    truth: String,
}

#[derive(Clone, Debug)]
struct Known {
    /// `None` from a hub that tells none.
    tag: Option<Arc<str>>,
    content: PoolContent,
}

/// What is to be fetched after a list.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Lacking {
    All,
    These(Vec<PoolId>),
}

// === impl Mirror ===

impl Mirror {
    /// As of when it is complete.
    pub(super) fn index(&self) -> Option<&str> {
        self.index.as_deref()
    }

    /// It is not known to be complete any more.
    pub(super) fn forget_index(&mut self) {
        self.index = None;
    }

    /// The tag of what the hub said last of itself.
    pub(super) fn truth(&self) -> &str {
        &self.truth
    }

    /// The tag of all pools; `None` where the hub does not tell theirs.
    pub(super) fn content_tag(&self) -> Option<String> {
        if self.pools.values().any(|known| known.tag.is_none()) {
            return None;
        }
        Some(content_tag(self.pools.iter().map(|(id, known)| (id.as_str(), known.tag.as_deref().unwrap_or_default()))))
    }

    /// The pools of a list that are not here as they are there.
    pub(super) fn lacking(&self, list: &List) -> Lacking {
        let has = |id: &PoolId, tag: &Option<Arc<str>>| {
            tag.is_some() && self.pools.get(id).is_some_and(|known| known.tag == *tag)
        };
        let lacking: Vec<PoolId> =
            list.pools.iter().filter(|(id, tag)| !has(id, tag)).map(|(id, _)| id.clone()).collect();
        let most = MAX_NAMED.min(list.pools.len() / 2);
        if lacking.len() > most { Lacking::All } else { Lacking::These(lacking) }
    }

    /// Takes in a list, with the pools that were fetched for it.
    pub(super) fn reset(&mut self, list: List, fetched: Vec<(Option<Arc<str>>, PoolContent)>) -> Vec<SourceEvent> {
        let mut fetched: BTreeMap<PoolId, Known> =
            fetched.into_iter().map(|(tag, content)| (content.id.clone(), Known { tag, content })).collect();
        let mut before = std::mem::take(&mut self.pools);
        // One that went between both answers is told as removed by the next one.
        let pool = |id: &PoolId| Some((id.clone(), fetched.remove(id).or_else(|| before.remove(id))?));
        self.pools = list.pools.iter().map(|(id, _)| id).filter_map(pool).collect();
        self.told_all(list.index, list.relay.as_ref())
    }

    /// Takes in an answer with all pools.
    pub(super) fn replace(&mut self, all: Delta) -> Vec<SourceEvent> {
        let before = std::mem::take(&mut self.pools);
        let known = |(tag, content): (Option<Arc<str>>, PoolContent)| {
            // What is the same is kept once, here and in the snapshot.
            let same = before.get(&content.id).filter(|before| tag.is_some() && before.tag == tag).cloned();
            (content.id.clone(), same.unwrap_or(Known { tag, content }))
        };
        self.pools = all.changed.into_iter().map(known).collect();
        self.told_all(all.index, all.relay.as_ref())
    }

    fn told_all(&mut self, index: String, relay: Option<&RelayPart>) -> Vec<SourceEvent> {
        self.index = Some(index);
        let mut told = self.about(relay);
        let pools = self.pools.values().map(|known| known.content.clone()).collect();
        told.push(SourceEvent::Pools(vec![Update::Reset(pools)]));
        told.push(SourceEvent::Contact(Watched::Endpoints));
        told
    }

    /// Takes in what changed. `None`: it does not follow from what is here, so that all is to be listed. `compared` says
    /// that the hub knew the tag of what is here.
    pub(super) fn apply(&mut self, delta: Delta, compared: bool) -> Option<Vec<SourceEvent>> {
        let nothing = delta.changed.is_empty() && delta.removed.is_empty();
        let in_turn = self.index.as_deref().is_some_and(|index| boot_of(index) == boot_of(&delta.index));
        // A hub of the same content says that nothing changed, whatever its index.
        if !(in_turn || nothing && compared) || delta.relay.as_ref().is_some_and(|relay| loaded(relay) != self.loaded) {
            return None;
        }
        self.index = Some(delta.index);
        let mut updates = Vec::new();
        for id in delta.removed {
            self.pools.remove(&id);
            updates.push(Update::Remove(id));
        }
        for (tag, content) in delta.changed {
            self.pools.insert(content.id.clone(), Known { tag, content: content.clone() });
            updates.push(Update::Add(content));
        }
        let mut told = self.about(delta.relay.as_ref());
        if !updates.is_empty() {
            told.push(SourceEvent::Pools(updates));
        }
        told.push(SourceEvent::Contact(Watched::Endpoints));
        Some(told)
    }

    fn about(&mut self, relay: Option<&RelayPart>) -> Vec<SourceEvent> {
        let Some(relay) = relay else { return Vec::new() };
        self.loaded = loaded(relay);
        self.truth.clone_from(&relay.truth);
        let mut told = vec![SourceEvent::Origins(relay.origins())];
        if let Some(hosts) = &relay.hosts {
            // What no gateway could have is left out: a hub may be of another version.
            let sound = |at: &HostPath| HostPath::parse(&at.to_string()).as_ref() == Ok(at);
            let sound = hosts.iter().filter(|claim| sound(&claim.at)).cloned();
            told.push(SourceEvent::Hosts(Claimants::Source, sound.collect()));
        }
        told
    }
}

fn loaded(relay: &RelayPart) -> BTreeSet<Arc<str>> {
    relay.sources.iter().filter(|source| source.loaded).map(|source| source.name.clone()).collect()
}

/// The life of a hub that an index is of.
pub(super) fn boot_of(index: &str) -> &str {
    index.rsplit_once(':').map_or(index, |(boot, _)| boot)
}
