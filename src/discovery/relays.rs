//! Relays: what they say of their gateways, and what this instance says to its own hub of those that it knows.
//!
//! A report has what is new since the last one that was answered, of each pool of each gateway the latest alone, so that
//! it is small whatever happened meanwhile. A hub of another life is told everything. What a hub takes, it tells its own
//! hub in the same way.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use super::access::{Client, Refusal};
use super::gateways::{Applied, Gateways, MAX_POOLS, MAX_TEXT, Upstream, Word, is_name};
use super::iso;
use crate::endpoints::hub::wire::{GatewayPart, Report, Verdict};

/// A relay asks every ten seconds at least; one that did not for so long is gone.
const GONE: Duration = Duration::from_secs(60);
/// Relays that are remembered; beyond it those that are gone are forgotten, and then nobody new is noted.
const MAX_RELAYS: usize = 20_000;
/// Relays in a row.
const MAX_DEPTH: usize = 16;

/// A relay that was heard of.
#[derive(Clone, Debug)]
pub(super) struct Relay {
    client: String,
    since: SystemTime,
    seen: SystemTime,
}

/// What is new of gateways, and the number up to which.
#[derive(Debug)]
pub(super) struct News {
    pub(super) gateways: Vec<GatewayPart>,
    pub(super) upto: u64,
}

/// Whether a relay is not there any more.
pub(super) fn is_gone(relay: Option<&Relay>, now: SystemTime) -> bool {
    relay.is_none_or(|relay| now.duration_since(relay.seen).is_ok_and(|age| age > GONE))
}

impl Gateways {
    /// Notes that a relay asked. The caller has looked whether it may say that it is this one.
    pub(super) fn relay_asked(&self, name: &str, client: &str, now: SystemTime) {
        let relays = &mut self.lock().relays;
        if !is_name(name) {
            return;
        }
        if relays.len() >= MAX_RELAYS && !relays.contains_key(name) {
            relays.retain(|_, relay| !is_gone(Some(relay), now));
            if relays.len() >= MAX_RELAYS {
                return;
            }
        }
        let relay =
            relays.entry(name.to_owned()).or_insert_with(|| Relay { client: client.to_owned(), since: now, seen: now });
        if is_gone(Some(relay), now) {
            relay.since = now;
        }
        client.clone_into(&mut relay.client);
        relay.seen = now;
    }

    /// Takes a relay's report in, of those gateways that its client speaks for.
    ///
    /// # Errors
    /// The client does not speak for the relay itself.
    pub(super) fn relayed(&self, report: Report, client: &Client, now: SystemTime) -> Result<Verdict, Refusal> {
        let mut verdict = Verdict::default();
        if !client.owns(&report.relay)? {
            return Err(Refusal::Foreign);
        }
        self.relay_asked(&report.relay, &client.name, now);
        let mut last = None;
        for part in report.gateways {
            let refused = match client.owns(&part.name)? {
                false => Some("this token does not speak for this gateway".to_owned()),
                true => self.take(part.clone(), &report.relay, now).map(|number| last = Some(number)).err(),
            };
            verdict.refused.extend(refused.map(|why| (part.name, why)));
        }
        if let Some(number) = last {
            self.pass_on(number);
        }
        Ok(verdict)
    }

    fn take(&self, part: GatewayPart, relay: &str, now: SystemTime) -> Result<u64, String> {
        if part.relays.len() >= MAX_DEPTH || part.applied.len() > MAX_POOLS || part.asked.len() > MAX_POOLS {
            return Err("more pools, or relays in a row, than are kept".to_owned());
        }
        let ago = |millis: u64| now.checked_sub(Duration::from_millis(millis)).unwrap_or(SystemTime::UNIX_EPOCH);
        let mut table = self.lock();
        let seen = ago(part.seen);
        let (gateway, number) = table.gateway(&part.name, &part.client, now).map_err(|error| error.to_string())?;
        gateway.relays = part.relays;
        gateway.relays.push(relay.to_owned());
        gateway.since = gateway.since.min(ago(part.since));
        gateway.seen = seen;
        for (pool, (applied, age)) in part.applied {
            let what: Applied = serde_json::from_value(applied).map_err(|_| format!("{pool}: no generation or tag"))?;
            gateway.serves(&pool, part.parts.get(&pool).copied().unwrap_or_default());
            gateway.applied.insert(pool, Word { what, at: ago(age), number });
        }
        for (pool, age) in part.asked {
            gateway.asked.insert(pool, Word { what: (), at: ago(age), number });
        }
        while gateway.applied.len() > MAX_POOLS {
            gateway.applied.pop_first();
        }
        while gateway.asked.len() > MAX_POOLS {
            gateway.asked.pop_first();
        }
        gateway.matches = part.matches;
        let text = |text: String| text.chars().take(MAX_TEXT).collect();
        gateway.error = part.error.map(|(what, age)| Word { what: text(what), at: ago(age), number });
        Ok(number)
    }

    /// What was said after the word of this number, the oldest first, at most of so many pools.
    pub(super) fn news(&self, after: u64, most: usize, now: SystemTime) -> News {
        let table = self.lock();
        let mut words: Vec<(u64, &str, Option<&str>)> = Vec::new();
        for (name, gateway) in table.gateways.iter().filter(|(_, gateway)| gateway.last > after) {
            words.push((gateway.last, name, None));
            let applied = gateway.applied.iter().map(|(pool, word)| (word.number, pool));
            let asked = gateway.asked.iter().map(|(pool, word)| (word.number, pool));
            let new = applied.chain(asked).filter(|(number, _)| *number > after);
            words.extend(new.map(|(number, pool)| (number, name.as_str(), Some(pool.as_str()))));
        }
        words.sort_unstable();
        let upto = match words.get(most) {
            // All words of one number go together.
            Some((cut, _, _)) => words.iter().map(|(number, _, _)| *number).filter(|it| it < cut).max().unwrap_or(*cut),
            None => table.last,
        };
        let mut news: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for (_, name, pool) in words.iter().take_while(|(number, _, _)| *number <= upto) {
            news.entry(name).or_default().extend(*pool);
        }
        let age =
            |at: SystemTime| u64::try_from(now.duration_since(at).unwrap_or_default().as_millis()).unwrap_or(u64::MAX);
        let part = |(name, pools): (&&str, &BTreeSet<&str>)| {
            let gateway = table.gateways.get(*name)?;
            let applied = pools.iter().filter_map(|pool| Some((pool, gateway.applied.get(*pool)?)));
            let asked = pools.iter().filter_map(|pool| Some((pool, gateway.asked.get(*pool)?)));
            let parts = pools.iter().filter_map(|pool| Some(((*pool).to_owned(), *gateway.parts.get(*pool)?)));
            Some(GatewayPart {
                name: (*name).to_owned(),
                client: gateway.client.clone(),
                relays: gateway.relays.clone(),
                since: age(gateway.since),
                seen: age(gateway.seen),
                applied: applied.map(|(pool, word)| ((*pool).to_owned(), (json!(word.what), age(word.at)))).collect(),
                asked: asked.map(|(pool, word)| ((*pool).to_owned(), age(word.at))).collect(),
                error: gateway.error.as_ref().map(|word| (word.what.clone(), age(word.at))),
                matches: gateway.matches,
                parts: parts.collect(),
            })
        };
        News { gateways: news.iter().filter_map(part).collect(), upto }
    }

    /// Notes what a hub said of what it was told of these gateways; `whole` is an error of all of them.
    pub(super) fn told(&self, gateways: &[GatewayPart], hub: &str, verdict: Result<&Verdict, &str>, now: SystemTime) {
        let mut table = self.lock();
        for part in gateways {
            let Some(gateway) = table.gateways.get_mut(&part.name) else { continue };
            let error = match verdict {
                Ok(verdict) => verdict.refused.get(&part.name).cloned(),
                Err(why) => Some(why.to_owned()),
            };
            let state = if error.is_some() { "refused" } else { "told" };
            gateway.upstream = Some(Upstream { hub: hub.to_owned(), state, error, at: iso(now) });
        }
    }

    /// All relays as JSON.
    pub(super) fn relays_report(&self, now: SystemTime) -> Value {
        let table = self.lock();
        let mut gateways: BTreeMap<&str, usize> = BTreeMap::new();
        for relay in table.gateways.values().filter_map(|gateway| gateway.relays.last()) {
            *gateways.entry(relay).or_default() += 1;
        }
        let relays = table.relays.iter().map(|(name, relay)| {
            json!({
                "name": name,
                "client": relay.client,
                "state": if is_gone(Some(relay), now) { "gone" } else { "connected" },
                "since": iso(relay.since),
                "seen": iso(relay.seen),
                "gateways": gateways.get(name.as_str()).copied().unwrap_or_default(),
            })
        });
        relays.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::discovery::config::Scope;
    use crate::discovery::gateways::Acknowledgement;
    use crate::endpoints::Snapshot;
    use crate::endpoints::pool::PoolId;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn client(gateways: Option<&[&str]>) -> Client {
        let gateways = gateways.map(|names| names.iter().map(|name| (*name).to_owned()).collect());
        Client::new("token", [127, 0, 0, 1].into(), Scope::default(), gateways)
    }

    fn acknowledge(gateways: &Gateways, text: &str, now: SystemTime) {
        let ack: Acknowledgement = serde_json::from_str(text).unwrap();
        gateways.acknowledge(ack, "10.0.0.1", now).unwrap();
    }

    fn report(news: &News) -> Report {
        Report { relay: "node-1".into(), gateways: news.gateways.clone() }
    }

    #[test]
    fn what_a_gateway_says_at_a_relay_is_known_at_the_hub_with_its_time_and_its_way() {
        let (relay, hub, top) = (Gateways::default(), Gateways::default(), Gateways::default());
        acknowledge(&relay, r#"{"gateway":"edge-1","applied":{"p":7},"error":"weights"}"#, at(100));
        relay.asked("edge-1", "10.0.0.1", "q", at(101)).unwrap();
        let news = relay.news(0, 100, at(110));
        // The hub's clock is another one.
        assert_eq!(hub.relayed(report(&news), &client(Some(&["*"])), at(5_010)).unwrap().refused, BTreeMap::new());
        let known = hub.report(&Snapshot::default(), at(5_010), |_| true);
        let edge = &known[0];
        assert_eq!((&edge["relays"], &edge["relay_state"]), (&json!(["node-1"]), &json!("connected")));
        assert_eq!((&edge["pools"]["p"]["applied"], &edge["error"]), (&json!(7), &json!("weights")));
        assert_eq!(edge["pools"]["p"]["applied_at"], iso(at(5_000)));
        assert_eq!(edge["pools"]["q"]["asked_at"], iso(at(5_001)));
        assert_eq!(hub.report(&Snapshot::default(), at(5_071), |_| true)[0]["relay_state"], "gone");
        assert_eq!(hub.relays_report(at(5_071))[0]["state"], "gone");
        let up = Report { relay: "hub-1".into(), gateways: hub.news(0, 100, at(5_020)).gateways };
        top.relayed(up, &client(Some(&["*"])), at(20)).unwrap();
        assert_eq!(top.report(&Snapshot::default(), at(20), |_| true)[0]["relays"], json!(["node-1", "hub-1"]));
    }

    #[test]
    fn that_a_gateway_tells_requests_apart_and_of_how_many_kinds_is_known_at_the_hub() {
        let (relay, hub) = (Gateways::default(), Gateways::default());
        let pool = PoolId::parse("app/shop/web/http").unwrap();
        let mut told = 0;
        // The generation of a hub that has been updated is the same as before.
        for (second, parts) in [(1, 0), (2, 1), (3, 0)] {
            let applied = vec![(&pool, Applied::Generation(7), parts)];
            relay.serves("node-1/edge", "this process", Some(&[pool.clone()].into()), applied, at(second)).unwrap();
            let news = relay.news(told, 100, at(second));
            told = news.upto;
            assert_eq!(news.gateways.len(), 1);
            hub.relayed(report(&news), &client(Some(&["*"])), at(second)).unwrap();
            let known = hub.report(&Snapshot::default(), at(second), |_| true);
            let matched = known[0]["pools"][pool.as_str()]["matched"].as_u64().unwrap_or_default();
            assert_eq!((&known[0]["matches"], matched), (&json!(true), parts as u64));
        }
        acknowledge(&relay, r#"{"gateway":"edge-1","applied":{"app/shop/web/http":7}}"#, at(4));
        let known = relay.report(&Snapshot::default(), at(4), |_| true);
        assert_eq!((&known[0]["name"], known[0].get("matches")), (&json!("edge-1"), None));
    }

    #[test]
    fn only_what_is_new_is_told_and_the_latest_alone_and_never_too_much_at_once() {
        let relay = Gateways::default();
        for round in 0..10 {
            acknowledge(&relay, &format!(r#"{{"gateway":"a","applied":{{"p":{round}}}}}"#), at(round));
        }
        let first = relay.news(0, 100, at(10));
        assert_eq!(first.gateways.len(), 1);
        assert_eq!(first.gateways[0].applied["p"].0, json!(9));
        assert!(relay.news(first.upto, 100, at(10)).gateways.is_empty());
        for number in 0..10 {
            relay.asked(&format!("g{number}"), "c", "p", at(11)).unwrap();
        }
        let (mut upto, mut told, mut rounds) = (first.upto, BTreeSet::new(), 0);
        loop {
            let news = relay.news(upto, 6, at(12));
            if news.gateways.is_empty() {
                break;
            }
            assert!(news.gateways.len() <= 6 && news.upto > upto);
            told.extend(news.gateways.iter().map(|part| part.name.clone()));
            (upto, rounds) = (news.upto, rounds + 1);
        }
        assert_eq!((told.len(), rounds > 1), (10, true));
    }

    #[test]
    fn a_hub_takes_only_what_the_relay_may_say_and_the_relay_shows_what_was_refused() {
        let (relay, hub) = (Gateways::default(), Gateways::default());
        acknowledge(&relay, r#"{"gateway":"edge-1"}"#, at(1));
        acknowledge(&relay, r#"{"gateway":"core-1"}"#, at(1));
        let news = relay.news(0, 100, at(2));
        assert_eq!(hub.relayed(report(&news), &client(None), at(2)).unwrap_err(), Refusal::ReadOnly);
        assert_eq!(hub.relayed(report(&news), &client(Some(&["edge-*"])), at(2)).unwrap_err(), Refusal::Foreign);
        let verdict = hub.relayed(report(&news), &client(Some(&["edge-*", "node-1"])), at(2)).unwrap();
        relay.told(&news.gateways, "http://hub", Ok(&verdict), at(3));
        let shown = relay.report(&Snapshot::default(), at(3), |_| true);
        assert_eq!((&shown[0]["name"], &shown[0]["upstream"]["state"]), (&json!("core-1"), &json!("refused")));
        assert!(shown[0]["upstream"]["error"].as_str().unwrap().contains("does not speak"));
        assert_eq!(shown[1]["upstream"]["state"], "told");
        let known = hub.report(&Snapshot::default(), at(3), |_| true);
        assert_eq!((known.as_array().unwrap().len(), &known[0]["name"]), (1, &json!("edge-1")));
    }
}
