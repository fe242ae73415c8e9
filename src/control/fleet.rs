//! Apps of several clusters: what the loop of the one that leads does about them.
//!
//! As for an App of one cluster, caches say whether something is to be written, and what is written follows from what is asked for
//! anew, in every cluster that answers ([`super::plan::waves`] says what one that does not means).

use std::collections::{BTreeMap, BTreeSet};

use kube::ResourceExt;

use super::apply::ApplyError;
use super::bundle::Bundle;
use super::children::{joined_pool, pool_of};
use super::controller::{Asks, Controller, Next, ends_well, is_under_way};
use super::hubs::Switch;
use super::member::Member;
use super::plan::Write;
use super::plan::waves::{Cluster, Fleet, FleetOutcome, FleetWrite, Side, Sight, plan};
use super::resource::app::AppStatus;
use super::resource::clusters::Placement;
use super::resource::moment::Moment;
use super::resource::release::{Release, ReleaseStatus};
use super::resource::times::PodTimes;
use super::store::Key;
use super::{autoscale, disruption, times};

/// An App's cluster.
struct Part<'a> {
    placement: Placement,
    /// Absent: the configuration has none of this name.
    member: Option<&'a Member>,
    /// What is there of the App, or why that is not known.
    bundle: Result<Bundle, String>,
}

/// What is to be done about the objects beside the revisions of one cluster.
enum Beside {
    Scale(autoscale::Step),
    Guard(disruption::Step),
}

// === impl Part ===

impl Part<'_> {
    /// Its part of the traffic beside the others'.
    fn share(&self, app: &Bundle) -> u32 {
        let count = self.placement.replicas.unwrap_or(app.app.spec.replicas);
        self.placement.share.unwrap_or(count).max(1)
    }

    /// What is there and how to write there.
    fn reached(&self) -> Option<(&Member, &Bundle)> {
        Some((self.member?, self.bundle.as_ref().ok()?))
    }

    fn beside(&self) -> Vec<Beside> {
        let Some((_, bundle)) = self.reached() else { return Vec::new() };
        let scale = autoscale::next(bundle).map(Beside::Scale);
        scale.into_iter().chain(disruption::next(bundle).map(Beside::Guard)).collect()
    }
}

// === impl Controller ===

impl Controller {
    /// A look at an App of several clusters.
    pub(super) async fn reconcile_fleet(&self, key: &Key, known: &Bundle) -> Result<Next, ApplyError> {
        if let Some(next) = self.come_or_go(known).await? {
            return Ok(next);
        }
        let asked = self.fleet_asks(known, &self.parts(known)).await;
        if asked != Asks::Writes {
            let waits = asked == Asks::Time || is_under_way(known);
            return Ok(if waits { Next::Again } else { Next::Rest });
        }
        let Some(home) = super::observe::ask(&self.writer.server, known).await? else { return Ok(Next::Rest) };
        if home.app.spec.clusters.is_empty() {
            return Ok(Next::Again);
        }
        let parts = self.ask_parts(&home).await;
        let mut status = home.newest().and_then(|release| release.status.clone());
        let mut failed = None;
        for release in self.under_plan(&home) {
            let outcome = self.plan_fleet(&home, &parts, release).await;
            self.make_all(&home, &parts, release, outcome.writes, &mut failed).await?;
            // Also where a write failed: what of it decides would have come alone, and this only tells.
            let Some(mut told) = outcome.status else { continue };
            if ends_well(release, &told) {
                told.pod_times = slowest(&parts, release, &told).await;
            }
            self.tell(release, &told).await?;
            if home.newest().is_some_and(|newest| newest.name_any() == release.name_any()) {
                status = Some(told);
            }
        }
        for part in &parts {
            for step in part.beside() {
                tracing::info!(
                    namespace = key.0,
                    app = key.1,
                    cluster = part.placement.name,
                    "its autoscaler or budget"
                );
                let Some((member, bundle)) = part.reached() else { continue };
                let made = match step {
                    Beside::Scale(step) => member.writer.autoscale(bundle, &step).await,
                    Beside::Guard(step) => member.writer.guard(&bundle.app, step).await,
                };
                match made {
                    Ok(()) => self.metrics.wrote_app(),
                    Err(error) => drop(failed.get_or_insert(error)),
                }
            }
        }
        let told = fleet_status(&home, &parts, status.as_ref());
        if home.app.status.as_ref() != Some(&told) {
            self.writer.app_status(&home.app, told).await?;
            self.metrics.wrote_app();
        }
        failed.map_or(Ok(Next::Again), Err)
    }

    /// What caches know of each of its clusters.
    fn parts<'a>(&'a self, home: &Bundle) -> Vec<Part<'a>> {
        let part = |(placement, member): (Placement, Option<&'a Member>)| {
            let bundle = member.map_or_else(|| Err(unnamed()), |member| member.known(home, &placement));
            Part { placement, member, bundle }
        };
        self.placed(home).into_iter().map(part).collect()
    }

    /// The same, asked for now.
    async fn ask_parts<'a>(&'a self, home: &Bundle) -> Vec<Part<'a>> {
        let part = |(placement, member): (Placement, Option<&'a Member>)| async move {
            let bundle = match member {
                Some(member) => member.ask(home, &placement).await,
                None => Err(unnamed()),
            };
            Part { placement, member, bundle }
        };
        futures_util::future::join_all(self.placed(home).into_iter().map(part)).await
    }

    /// Its clusters, in the order of their waves and then of their names.
    fn placed(&self, home: &Bundle) -> Vec<(Placement, Option<&Member>)> {
        let mut placements = home.app.spec.clusters.clone();
        placements.sort_by(|a, b| (a.wave, &a.name).cmp(&(b.wave, &b.name)));
        let member = |name: &str| self.members.iter().find(|it| it.name() == name);
        placements.into_iter().map(|it| (it.clone(), member(&it.name))).collect()
    }

    async fn fleet_asks(&self, known: &Bundle, parts: &[Part<'_>]) -> Asks {
        let status = known.newest().and_then(|release| release.status.clone());
        if known.app.status.as_ref() != Some(&fleet_status(known, parts, status.as_ref())) {
            return Asks::Writes;
        }
        if parts.iter().any(|part| !part.beside().is_empty()) {
            return Asks::Writes;
        }
        let mut asked = Asks::Nothing;
        for release in self.under_plan(known) {
            let outcome = self.plan_fleet(known, parts, release).await;
            if !outcome.is_empty() {
                return Asks::Writes;
            }
            if outcome.unsettled {
                asked = Asks::Time;
            }
        }
        asked
    }

    /// The planner, with what hubs and gates say where it matters.
    async fn plan_fleet(&self, home: &Bundle, parts: &[Part<'_>], release: &Release) -> FleetOutcome {
        let status = release.status.clone().unwrap_or_default();
        let goal = home.goal(release, self.config.acknowledge_timeout);
        let mut fleet = self.sight(home, parts, release);
        if fleet.superseded_by.is_none() {
            let missing = self.fleet_missing(home, release, &status, &fleet).await;
            for seen in seen(&mut fleet) {
                seen.missing.clone_from(&missing);
            }
        }
        let namespace = home.app.namespace().unwrap_or_default();
        for (part, cluster) in parts.iter().zip(&mut fleet.clusters) {
            if let (Some(member), Sight::Seen(seen)) = (part.member, &mut cluster.sight) {
                self.logs.add(&member.writer.server.client, &namespace, seen, &goal).await;
            }
        }
        let mut outcome = plan(&fleet, &goal, &status);
        for (name, step) in outcome.ask_gate.clone() {
            let of = |cluster: &&mut Cluster| cluster.name == name;
            let part = parts.iter().find(|it| it.placement.name == name).and_then(Part::reached);
            let (Some((member, bundle)), Some(cluster)) = (part, fleet.clusters.iter_mut().find(of)) else { continue };
            let Some(release) = same(bundle, release) else { continue };
            let there = status.clusters.iter().find(|it| it.name == name).map(|it| it.progress.clone());
            let there = there.unwrap_or_default();
            if let Sight::Seen(seen) = &mut cluster.sight {
                seen.gate = Some(self.ask_gate(&member.writer, bundle, release, step, &there, seen).await);
            }
        }
        if !outcome.ask_gate.is_empty() {
            outcome = plan(&fleet, &goal, &status);
        }
        let switch = outcome.writes.iter().find_map(|write| match write {
            FleetWrite::Traffic { shares, matched } => Some((shares, matched)),
            _ => None,
        });
        let Some((shares, matched)) = switch else { return outcome };
        let sides: BTreeSet<Side> = shares.keys().chain(matched.keys()).cloned().collect();
        let unmatching = match matched.is_empty() {
            true => Ok(Vec::new()),
            false => self.unmatching(home, release, fleet.now).await,
        };
        let mut changed = false;
        for (part, cluster) in parts.iter().zip(&mut fleet.clusters) {
            let (Some((member, bundle)), Sight::Seen(seen)) = (part.reached(), &mut cluster.sight) else { continue };
            let own = sides.iter().filter(|(name, _)| *name == cluster.name).map(|(_, revision)| revision.clone());
            seen.unpublished = self.unpublished(&member.writer, bundle, release, seen, &own.collect()).await;
            match &unmatching {
                Ok(names) => seen.unmatching.clone_from(names),
                Err(why) => drop(seen.unpublished.get_or_insert(why.clone())),
            }
            changed |= seen.unpublished.is_some() || !seen.unmatching.is_empty();
        }
        if changed { plan(&fleet, &goal, &status) } else { outcome }
    }

    /// What the planner sees, but for what hubs and gates say.
    fn sight(&self, home: &Bundle, parts: &[Part<'_>], release: &Release) -> Fleet {
        let now = Moment::now();
        let cluster = |part: &Part<'_>| {
            let name = part.placement.name.clone();
            let sight = match &part.bundle {
                Ok(bundle) => {
                    let mut seen = bundle.observe(release, &name, now);
                    // What is another cluster's, or nobody's, is none of this one's traffic.
                    if let Some(traffic) = &mut seen.traffic {
                        traffic.shares.retain(|side, _| !side.contains('/'));
                        traffic.matched.retain(|side, _| !side.contains('/'));
                    }
                    seen.superseded_by = None;
                    Sight::Seen(Box::new(seen))
                }
                Err(why) => Sight::Unreached(why.clone()),
            };
            Cluster {
                name,
                wave: part.placement.wave,
                share: part.share(home),
                trouble: part.member.and_then(|it| it.trouble(&home.app)),
                sight,
            }
        };
        let (strays, foreign) = self.strays(home, parts);
        let migrates = release.spec.strategy.migrate.is_some().then(|| {
            "strategy migrate goes with an App of no clusters but its own: create a Release with another".to_owned()
        });
        let foreign = foreign.map(|pool| {
            format!(
                "TrafficPolicy {} has pool {pool}, which is in none of the App's clusters: take it out first",
                release.spec.app
            )
        });
        Fleet {
            now,
            clusters: parts.iter().map(cluster).collect(),
            refused: migrates.or(foreign),
            strays,
            superseded_by: home.observe(release, &self.config.cluster, now).superseded_by,
        }
    }

    /// Whether its policy has pools of clusters that are no longer the App's, and one that is of no cluster that is known.
    fn strays(&self, home: &Bundle, parts: &[Part<'_>]) -> (bool, Option<String>) {
        let Some(policy) = &home.policy else { return (false, None) };
        let (namespace, app) = (home.app.namespace().unwrap_or_default(), home.app.name_any());
        let ours = |pool: &str| {
            parts.iter().any(|part| pool.starts_with(&format!("{}/{namespace}/{app}-", part.placement.name)))
        };
        let named = |pool: &str| self.members.iter().any(|it| pool.split('/').next() == Some(it.name()));
        let others = policy.spec.members.iter().map(|it| it.pool.as_str()).filter(|it| !ours(it));
        let (known, unknown): (Vec<&str>, Vec<&str>) = others.partition(|pool| named(pool));
        (!known.is_empty(), unknown.first().map(|it| (*it).to_owned()))
    }

    /// Who has not acknowledged the policy as it is; asked only while that is not known already in every cluster.
    async fn fleet_missing(
        &self,
        home: &Bundle,
        release: &Release,
        status: &ReleaseStatus,
        fleet: &Fleet,
    ) -> Vec<String> {
        let Some(policy) = &home.policy else { return Vec::new() };
        let generation = policy.metadata.generation.unwrap_or_default();
        let knows = |cluster: &Cluster| {
            let there = status.clusters.iter().find(|it| it.name == cluster.name);
            let there = there.and_then(|it| it.progress.traffic.as_ref());
            matches!(cluster.sight, Sight::Unreached(_)) || there.is_some_and(|it| it.generation == generation)
        };
        if fleet.clusters.iter().all(knows) {
            return Vec::new();
        }
        let pool = joined_pool(&home.app.namespace().unwrap_or_default(), &home.app.name_any(), &release.spec.port);
        let matched = policy.spec.members.iter().filter(|it| it.matches.is_some()).count();
        self.hubs.missing(&pool, Switch { generation, matched }, &release.spec.control.ignore_gateways, fleet.now).await
    }

    /// Makes writes in their order; what fails in one cluster holds up no write in another, and is told.
    async fn make_all(
        &self,
        home: &Bundle,
        parts: &[Part<'_>],
        release: &Release,
        writes: Vec<FleetWrite>,
        failed: &mut Option<ApplyError>,
    ) -> Result<(), ApplyError> {
        let mut spoiled: BTreeSet<String> = BTreeSet::new();
        for write in writes {
            match write {
                FleetWrite::In { cluster, write } => {
                    let part = parts.iter().find(|it| it.placement.name == cluster).and_then(Part::reached);
                    let Some((member, bundle)) = part.filter(|_| !spoiled.contains(&cluster)) else { continue };
                    let Some(release) = same(bundle, release) else { continue };
                    let result = self.make(&member.writer, bundle, release, &write).await;
                    member.note(&home.app, &result);
                    if let Err(error) = result {
                        tracing::debug!(cluster, %error, "a write was not made");
                        spoiled.insert(cluster);
                        failed.get_or_insert(error);
                    }
                }
                FleetWrite::Traffic { shares, matched } if failed.is_none() => {
                    let (namespace, app) = (home.app.namespace().unwrap_or_default(), home.app.name_any());
                    let pool = |(cluster, side): Side| pool_of(&cluster, &namespace, &app, &side, &release.spec.port);
                    let shares: BTreeMap<String, u32> = shares.into_iter().map(|(side, it)| (pool(side), it)).collect();
                    let matched = matched.into_iter().map(|(side, it)| (pool(side), it)).collect();
                    self.make(&self.writer, home, release, &Write::Traffic { shares, matched }).await?;
                }
                FleetWrite::Traffic { .. } => {}
            }
        }
        Ok(())
    }
}

fn unnamed() -> String {
    "the control component has no [[control.cluster]] of this name".to_owned()
}

fn seen(fleet: &mut Fleet) -> impl Iterator<Item = &mut super::plan::Observed> {
    fleet.clusters.iter_mut().filter_map(|it| match &mut it.sight {
        Sight::Seen(seen) => Some(&mut **seen),
        Sight::Unreached(_) => None,
    })
}

/// A release as a cluster's bundle has it.
fn same<'a>(bundle: &'a Bundle, release: &Release) -> Option<&'a Release> {
    bundle.releases.iter().find(|it| it.name_any() == release.name_any())
}

/// Where the time of the slowest new pod of all clusters went.
async fn slowest(parts: &[Part<'_>], release: &Release, status: &ReleaseStatus) -> Option<PodTimes> {
    let mut all = Vec::new();
    for (member, bundle) in parts.iter().filter_map(Part::reached) {
        // What of it was ours counts from when it began there.
        let Some(there) = status.clusters.iter().find(|it| it.name == member.name()) else { continue };
        all.extend(times::of_release(&member.writer.server, bundle, release, &there.progress).await);
    }
    let pods = all.iter().map(|it| it.pods).sum();
    let took =
        |it: &PodTimes| it.parts().iter().filter(|(part, _)| *part != "ours").map(|(_, seconds)| seconds).sum::<u32>();
    let slowest = all.into_iter().max_by_key(took)?;
    Some(PodTimes { pods, ..slowest })
}

/// What is to be told of the App; its pods as they were last seen, while not every cluster answers.
fn fleet_status(home: &Bundle, parts: &[Part<'_>], release: Option<&ReleaseStatus>) -> AppStatus {
    let told = home.app.status.clone().unwrap_or_default();
    let AppStatus { selector, release, .. } = home.app_status("", release);
    let each = parts.iter().map(|part| part.reached().map(|(member, bundle)| bundle.app_status(member.name(), None)));
    let each: Option<Vec<AppStatus>> = each.collect();
    let Some(each) = each else { return AppStatus { selector, release, ..told } };
    let serving = |part: &Part<'_>| {
        let (member, bundle) = part.reached()?;
        let own = bundle.serving(member.name()).into_iter().filter(|(side, _)| !side.contains('/'));
        Some(own.map(|(side, what)| format!("{}/{side}{what}", member.name())).collect::<Vec<_>>())
    };
    AppStatus {
        replicas: each.iter().map(|it| it.replicas).sum(),
        ready_replicas: each.iter().map(|it| it.ready_replicas).sum(),
        selector,
        serving: parts.iter().filter_map(serving).flatten().collect::<Vec<_>>().join(","),
        release,
    }
}
