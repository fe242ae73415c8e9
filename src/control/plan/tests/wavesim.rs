//! Several simulated clusters under one policy. Each write is judged in its own cluster as that of an App of one cluster is, and
//! beyond that by what must hold of all together.

use std::collections::BTreeMap;

use super::super::wanted::normalized;
use super::super::waves::{Cluster, Fleet, FleetOutcome, FleetWrite, Side, Sight, plan};
use super::super::{GateSeen, Goal, Observed, Traffic, WHOLE, Write};
use super::given::goal;
use super::kills::{Kill, Written};
use super::sim::World;
use crate::control::resource::moment::Moment;
use crate::control::resource::progress::Phase;
use crate::control::resource::release::{Control, ReleaseStatus};
use crate::control::resource::strategy::Strategy;
use crate::kubernetes::policy::RequestMatch;

/// One of them.
pub(super) struct Place {
    pub(super) name: &'static str,
    pub(super) wave: u32,
    pub(super) share: u32,
    pub(super) is_away: bool,
    pub(super) world: World,
}

pub(super) struct Worlds {
    pub(super) places: Vec<Place>,
    pub(super) shares: BTreeMap<Side, u32>,
    matched: BTreeMap<Side, RequestMatch>,
    generation: i64,
    pub(super) goal: Goal,
    pub(super) status: ReleaseStatus,
    pub(super) superseded: bool,
    pub(super) writes: usize,
}

impl Worlds {
    /// Two clusters of the first wave and one of the second, with an `old` revision that serves in all.
    pub(super) fn new(strategy: &Strategy) -> Self {
        let place =
            |name, wave, share| Place { name, wave, share, is_away: false, world: World::new(strategy.clone(), share) };
        let places = vec![place("east", 1, 4), place("north", 1, 2), place("west", 2, 3)];
        let old = |it: &Place| ((it.name.to_owned(), "old".to_owned()), WHOLE * it.share);
        Self {
            shares: places.iter().map(old).collect(),
            matched: BTreeMap::new(),
            generation: 3,
            places,
            goal: goal(strategy.clone()),
            status: ReleaseStatus::default(),
            superseded: false,
            writes: 0,
        }
    }

    pub(super) fn place(&mut self, name: &str) -> &mut Place {
        self.places.iter_mut().find(|it| it.name == name).expect("a place")
    }

    pub(super) fn phase(&self) -> Phase {
        self.status.progress.phase
    }

    pub(super) fn message(&self) -> &str {
        &self.status.progress.message
    }

    fn now(&self) -> Moment {
        self.places.first().expect("a place").world.now
    }

    /// Each world as the policy, the status and the goal have it.
    fn inform(&mut self) {
        for place in &mut self.places {
            let own = |it: &Side| it.0 == place.name;
            let shares = self.shares.iter().filter(|(side, _)| own(side)).map(|(side, it)| (side.1.clone(), *it));
            let matched =
                self.matched.iter().filter(|(side, _)| own(side)).map(|(side, it)| (side.1.clone(), it.clone()));
            let (shares, matched) = (normalized(&shares.collect()), matched.collect());
            place.world.traffic = Some(Traffic { generation: self.generation, shares, matched });
            let there = self.status.clusters.iter().find(|it| it.name == place.name);
            place.world.status = there.map(|it| it.progress.clone()).unwrap_or_default();
            place.world.goal = self.goal.clone();
        }
    }

    /// What is seen in a cluster: its part of the traffic as the policy has it.
    fn seen(&self, place: &Place) -> Observed {
        let mut seen = place.world.seen();
        let own = self.shares.iter().filter(|(side, _)| side.0 == place.name);
        if let Some(traffic) = &mut seen.traffic {
            traffic.shares = own.map(|(side, share)| (side.1.clone(), *share)).collect();
        }
        seen
    }

    pub(super) fn fleet(&self) -> Fleet {
        let cluster = |it: &Place| Cluster {
            name: it.name.to_owned(),
            wave: it.wave,
            share: it.share,
            trouble: None,
            sight: match it.is_away {
                true => Sight::Unreached("no answer".to_owned()),
                false => Sight::Seen(Box::new(self.seen(it))),
            },
        };
        Fleet {
            now: self.now(),
            clusters: self.places.iter().map(cluster).collect(),
            refused: None,
            strays: false,
            superseded_by: self.superseded.then(|| "web-3".to_owned()),
        }
    }

    /// One look of the controller. Says how many writes it made.
    pub(super) fn reconcile(&mut self, kill: Option<Kill>) -> Result<usize, String> {
        self.inform();
        let mut fleet = self.fleet();
        let mut outcome: FleetOutcome = plan(&fleet, &self.goal, &self.status);
        for (name, _) in outcome.ask_gate.clone() {
            let revision = self.goal.revision.clone();
            let place = self.place(&name);
            if place.world.gate == GateSeen::Passed {
                place.world.entitled.insert(revision);
            }
            let gate = place.world.gate.clone();
            let cluster = fleet.clusters.iter_mut().find(|it| it.name == name).expect("its cluster");
            if let Sight::Seen(seen) = &mut cluster.sight {
                seen.gate = Some(gate);
            }
            outcome = plan(&fleet, &self.goal, &self.status);
        }
        self.write_all(outcome.writes, outcome.status, kill)
    }

    fn judge(&self, write: &FleetWrite) -> Result<(), String> {
        let away = self.places.iter().find(|it| it.is_away).map(|it| it.name);
        let takes = match write {
            FleetWrite::Traffic { .. } => true,
            FleetWrite::In { write: Write::Scale { from, to, .. }, .. } => to < from,
            FleetWrite::In { write, .. } => matches!(write, Write::Delete { .. } | Write::Recreate { .. }),
        };
        if let Some(away) = away.filter(|_| takes) {
            return Err(format!("{write:?} while nobody knows what is in {away}"));
        }
        match write {
            FleetWrite::In { cluster, write } => {
                let place = self.places.iter().find(|it| it.name == cluster).expect("its place");
                if place.is_away {
                    return Err(format!("{write:?} in {cluster}, which does not answer"));
                }
                let begins = matches!(write, Write::Create { revision, .. } if *revision == self.goal.revision);
                self.in_turn(place, begins)?;
                place.world.judge(write).map_err(|why| format!("{cluster}: {why}"))
            }
            FleetWrite::Traffic { shares, matched } => self.places.iter().try_for_each(|place| {
                let own = |side: &Side| side.0 == place.name;
                let parts: BTreeMap<String, u32> =
                    shares.iter().filter(|(side, _)| own(side)).map(|(side, it)| (side.1.clone(), *it)).collect();
                let requests: BTreeMap<String, RequestMatch> = matched
                    .iter()
                    .filter(|(side, _)| own(side))
                    .map(|(side, it)| (side.1.clone(), it.clone()))
                    .collect();
                let (now, set) = (place.world.shares(), place.world.matched());
                let has = |all: &BTreeMap<String, u32>| all.get(&self.goal.revision).copied().unwrap_or_default();
                self.in_turn(place, has(&parts) > 0 && has(&now) == 0)?;
                let same = normalized(&parts) == normalized(&now);
                if same && requests.keys().map(String::as_str).eq(set) {
                    return Ok(());
                }
                let write = Write::Traffic { shares: normalized(&parts), matched: requests };
                place.world.judge(&write).map_err(|why| format!("{}: {why}", place.name))
            }),
        }
    }

    /// Whether it is a cluster's turn to begin.
    fn in_turn(&self, place: &Place, begins: bool) -> Result<(), String> {
        let healthy = |it: &&Place| {
            self.status.clusters.iter().any(|had| had.name == it.name && had.progress.phase == Phase::Healthy)
        };
        let mut earlier = self.places.iter().filter(|it| it.wave < place.wave);
        match begins && !self.goal.rollback && !earlier.all(|it| healthy(&it)) {
            true => Err(format!("{} begins before its turn", place.name)),
            false => Ok(()),
        }
    }

    fn apply(&mut self, write: FleetWrite) {
        match write {
            FleetWrite::In { cluster, write } => self.place(&cluster).world.apply(write),
            FleetWrite::Traffic { shares, matched } => {
                (self.shares, self.matched) = (shares, matched);
                self.generation += 1;
                self.inform();
            }
        }
    }

    /// Each cluster's part of the traffic, of a thousand.
    pub(super) fn parts(&self) -> BTreeMap<&'static str, u32> {
        let all: u32 = self.shares.values().sum();
        let part = |it: &Place| {
            let own = self.shares.iter().filter(|(side, _)| side.0 == it.name).map(|(_, share)| *share).sum::<u32>();
            (it.name, own * WHOLE / all.max(1))
        };
        self.places.iter().map(part).collect()
    }

    /// All go well for a second, before the controller looks; what is away stays away.
    pub(super) fn second(&mut self) -> Result<usize, String> {
        self.pass(1)
    }

    /// The same for so many seconds, with one look at their end.
    pub(super) fn pass(&mut self, seconds: u64) -> Result<usize, String> {
        for place in &mut self.places {
            place.world.tick(seconds);
            place.world.pods_come(9);
            place.world.gateway_pulls();
        }
        self.reconcile(None)
    }

    /// A newer release of this revision takes over.
    pub(super) fn supersede(&mut self, revision: &str) -> Result<(), String> {
        self.superseded = true;
        self.reconcile(None)?;
        let phase = self.phase();
        if !phase.is_final() {
            return Err(format!("{phase:?} after another took over"));
        }
        (self.superseded, self.status) = (false, ReleaseStatus::default());
        self.goal = Goal { revision: revision.to_owned(), control: Control::default(), ..self.goal.clone() };
        Ok(())
    }

    /// All goes well from here on, and people let it go on: until it has ended and nothing more is written.
    pub(super) fn settle(&mut self) -> Result<(), String> {
        self.goal.control.paused = false;
        (self.goal.control.target_step, self.goal.control.target_wave) = (None, None);
        self.goal.control.promote_full = true;
        self.goal.control.retries += 1;
        for place in &mut self.places {
            place.is_away = false;
            (place.world.gate, place.world.blocked) = (GateSeen::Passed, None);
            place.world.sick.clear();
        }
        let mut idle = 0;
        for _ in 0..4_000 {
            // What is waited for without a write is time.
            let seconds = if idle == 0 { 1 } else { 5 };
            idle = if self.pass(seconds)? == 0 { idle + seconds } else { 0 };
            let mut failures = self.status.clusters.iter().filter_map(|it| it.progress.failure.as_ref());
            let is_refused = failures.any(|it| it.reason.starts_with("nothing else ran"));
            let is_over = self.phase().is_final();
            if (is_over || is_refused) && idle > 40 {
                return self.check();
            }
            if !is_over && self.message().is_empty() {
                return Err("it waits and does not say why".to_owned());
            }
        }
        Err(format!("it does not end: {:?} {}", self.phase(), self.message()))
    }

    fn check(&self) -> Result<(), String> {
        self.places.iter().try_for_each(|it| it.world.check_settled().map_err(|why| format!("{}: {why}", it.name)))
    }
}

// === impl Written ===

impl Written for Worlds {
    type Write = FleetWrite;
    type Status = ReleaseStatus;

    fn writes(&mut self) -> &mut usize {
        &mut self.writes
    }

    fn write(&mut self, write: FleetWrite) -> Result<(), String> {
        self.judge(&write)?;
        self.apply(write);
        Ok(())
    }

    fn persist(&mut self, status: ReleaseStatus) {
        self.status = status;
    }
}
