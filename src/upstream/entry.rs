//! One pool as it is followed: its endpoints' lives, and the next table's pool out of them.

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;

use super::balance::{self, Candidate, Group, Picker, Plan, age_part, plan};
use super::config::{Balancer, PoolConfig};
use super::host::{Host, Out};
use super::life::{Context, Life, Member};
use super::metrics::States;
use super::outlier::{Cause, far_below};
use super::pool::{Layout, Pool};
use super::probe::Checks;
use super::targets::Targets;
use crate::endpoints::Snapshot;
use crate::endpoints::matched::{Matched, Parts};
use crate::endpoints::pool::{Endpoint, Protocol};

/// A slow start goes up in so many steps.
const STEPS: u32 = 20;
/// The group of a pool that is not joined from others here.
const ALONE: Group = Group { share: 1, priority: 0 };
/// No step is shorter.
const SHORTEST_STEP: Duration = Duration::from_millis(100);

/// A pool that is followed.
#[derive(Debug)]
pub(super) struct Entry {
    context: Arc<Context>,
    /// The configuration names it.
    configured: bool,
    hosts: HashMap<SocketAddr, Tracked>,
    /// It has had a ready endpoint: who comes from now on is new.
    loaded: bool,
    /// When success rates are compared next.
    interval_ends: Instant,
    /// When time brings the next change of the table, ejections that end and ages that grow.
    next: Option<Instant>,
    /// Its pool in the present table.
    pool: Option<Arc<Pool>>,
}

/// An endpoint that is followed.
#[derive(Debug)]
struct Tracked {
    host: Arc<Host>,
    ready: bool,
    /// Present while its health is checked.
    checks: Option<Checks>,
}

/// What a pool is made from beside its own state.
#[derive(Clone, Copy)]
pub(super) struct Scene<'a> {
    pub(super) snapshot: &'a Snapshot,
    pub(super) zone: Option<&'a str>,
    pub(super) runtime: &'a Handle,
    pub(super) now: Instant,
}

// === impl Entry ===

impl Entry {
    pub(super) fn new(life: Arc<Life>, now: Instant) -> Self {
        Self {
            context: Arc::new(Context { config: PoolConfig::default(), life }),
            configured: false,
            hosts: HashMap::new(),
            loaded: false,
            interval_ends: now,
            next: None,
            pool: None,
        }
    }

    /// Takes its configuration over, `None` where there is none any more; says whether that changes anything.
    pub(super) fn configure(&mut self, config: Option<&PoolConfig>) -> bool {
        let before = (self.configured, &self.context.config);
        if self.pool.is_some() && before == (config.is_some(), config.unwrap_or(before.1)) {
            return false;
        }
        self.configured = config.is_some();
        let config = config.cloned().unwrap_or_default();
        if config.health_check != self.context.config.health_check
            || config.connection != self.context.config.connection
        {
            self.hosts.values_mut().for_each(|tracked| tracked.checks = None);
        }
        if config.health_check.is_none() {
            self.hosts.values().for_each(|tracked| _ = tracked.host.set_out(Out::Unhealthy, false));
        }
        self.context = Arc::new(Context { config, life: Arc::clone(&self.context.life) });
        true
    }

    /// When to look at it again.
    pub(super) fn next(&self) -> Option<Instant> {
        let interval = self.context.config.outlier.map(|_| self.interval_ends).filter(|_| !self.hosts.is_empty());
        [self.next, interval].into_iter().flatten().min()
    }

    /// Does what is due; says whether the table is to be made anew.
    pub(super) fn is_due(&mut self, now: Instant) -> bool {
        if let Some(outlier) = &self.context.config.outlier
            && self.interval_ends <= now
        {
            self.interval_ends = now + outlier.interval.max(Duration::from_millis(10));
            let hosts: Vec<_> = self.hosts.values().filter(|it| it.ready).map(|it| &it.host).collect();
            let counts: Vec<_> = hosts.iter().map(|host| host.tally.end_interval()).collect();
            let bad = outlier.success_rate.map(|config| far_below(&counts, &config)).unwrap_or_default();
            for host in bad.into_iter().filter_map(|at| hosts.get(at)) {
                self.context.life.eject(host, Cause::SuccessRate, outlier, now);
            }
        }
        self.next.is_some_and(|next| next <= now)
    }

    /// Shows what is in use.
    pub(super) fn show(&self) {
        self.context.life.metrics.show_usage(&self.context.life.usage);
    }

    /// Makes the pool for the next table.
    pub(super) fn rebuild(&mut self, scene: &Scene<'_>, targets: &mut Targets) -> Arc<Pool> {
        let context = Arc::clone(&self.context);
        let Gathered { groups, parts, listed } =
            if self.configured { gather(&context, scene.snapshot) } else { Gathered::default() };
        let known = self.configured && is_known(&context, scene.snapshot);
        let ready = self.track(&listed, scene, targets);
        if context.config.limits.max_connections.is_some() {
            context.life.set_targets(self.hosts.values().map(|it| Arc::downgrade(&it.host.target)).collect());
        }
        context.life.end_ejections(self.hosts.values().map(|tracked| &tracked.host), ready, scene.now);
        let mut members: Vec<Arc<Member>> = Vec::with_capacity(listed.len());
        let mut places: HashMap<SocketAddr, usize> = HashMap::with_capacity(listed.len());
        let mut candidates: Vec<(usize, Candidate)> = Vec::with_capacity(listed.len());
        for (group, endpoint) in listed {
            let Some(tracked) = self.hosts.get(&address(endpoint)) else { continue };
            let member = || {
                let http2 = context.config.connection.protocol.is_http2(endpoint.app_protocol.as_deref());
                let (host, context) = (Arc::clone(&tracked.host), Arc::clone(&context));
                Arc::new(Member { endpoint: endpoint.clone(), host, context, http2 })
            };
            // Several members of a joined pool may have the same endpoint: it is one, with all their parts.
            let place = *places.entry(address(endpoint)).or_insert_with(|| {
                members.push(member());
                members.len() - 1
            });
            if endpoint.is_ready() {
                if let Some(first) = members.get_mut(place).filter(|first| !first.endpoint.is_ready()) {
                    *first = member();
                }
                let age = age_of(&tracked.host, &context.config, scene.now);
                let good = !tracked.host.is_out();
                candidates.push((place, Candidate { group, weight: endpoint.weight, good, age }));
            }
        }
        let before = self.pool.as_deref();
        let of = |groups: std::ops::Range<usize>| {
            let own = candidates.iter().filter(move |(_, it)| groups.contains(&it.group));
            own.map(|(place, it)| (*place, *it)).collect::<Vec<_>>()
        };
        let (config, zone) = (&context.config, scene.zone);
        let rest = layout(config, &members, &groups, &of(0..groups.len()), zone, before.map(|it| &it.rest));
        let part = |(at, part): (usize, &Arc<Matched>)| {
            let mut own = of(groups.len() + at..groups.len() + at + 1);
            own.iter_mut().for_each(|(_, it)| it.group = 0);
            let before = before.and_then(|pool| pool.parts.iter().find(|(it, _)| it.is(part)));
            let layout = layout(config, &members, &[ALONE], &own, zone, before.map(|(_, layout)| layout));
            (Arc::clone(part), layout)
        };
        let parts = parts.iter().enumerate().map(part).collect();
        self.next = self.next_change(scene.now);
        let pool = Arc::new(Pool { members: members.into(), rest, parts, known, context });
        pool.context.life.metrics.show_states(states(&pool));
        self.pool = Some(Arc::clone(&pool));
        pool
    }

    /// Lets endpoints come and go as they are listed; gives how many are ready.
    fn track(&mut self, listed: &[(usize, &Endpoint)], scene: &Scene<'_>, targets: &mut Targets) -> usize {
        let mut readiness: HashMap<SocketAddr, bool> = HashMap::with_capacity(listed.len());
        for (_, endpoint) in listed {
            *readiness.entry(address(endpoint)).or_default() |= endpoint.is_ready();
        }
        let tls = self.context.config.connection.tls.as_ref();
        let same_tls = |host: &Host| host.target.key().1.as_ref() == tls.map(|tls| tls.identity());
        self.hosts.retain(|address, tracked| {
            let stays = readiness.contains_key(address) && same_tls(&tracked.host);
            if !stays {
                tracked.set_ready(false);
                targets.release(&tracked.host.target);
            }
            stays
        });
        let since = self.loaded.then_some(scene.now);
        for (address, ready) in &readiness {
            let made = || Tracked::new(Host::new(targets.get(*address, tls), since));
            self.hosts.entry(*address).or_insert_with(made).set_ready(*ready);
        }
        for (_, endpoint) in listed {
            if let Some(tracked) = self.hosts.get_mut(&address(endpoint)).filter(|it| it.checks.is_none() && it.ready) {
                let http2 = self.context.config.connection.protocol.is_http2(endpoint.app_protocol.as_deref());
                tracked.checks = Checks::start(scene.runtime, &tracked.host, &self.context, http2);
            }
        }
        let ready = readiness.values().filter(|ready| **ready).count();
        self.loaded |= ready > 0;
        ready
    }

    /// When time alone changes the table next.
    fn next_change(&self, now: Instant) -> Option<Instant> {
        let life = &self.context.life;
        let hosts = || self.hosts.values().map(|tracked| &tracked.host);
        let ejections = hosts().filter_map(|host| host.tally.ejected_until()).min().map(|until| life.instant(until));
        let growing = self.context.config.slow_start.filter(|window| {
            self.context.config.balancer != Balancer::ConsistentHash
                && hosts().any(|host| host.since.is_some_and(|since| now < since + *window))
        });
        let step = growing.map(|window| now + (window / STEPS).max(SHORTEST_STEP));
        [ejections, step].into_iter().flatten().min()
    }
}

// === impl Tracked ===

impl Tracked {
    fn new(host: Host) -> Self {
        Self { host: Arc::new(host), ready: false, checks: None }
    }

    fn set_ready(&mut self, ready: bool) {
        match (self.ready, ready) {
            (false, true) => self.host.target.want(),
            (true, false) => {
                self.host.target.unwant();
                self.checks = None;
            }
            _ => {}
        }
        self.ready = ready;
    }
}

fn address(endpoint: &Endpoint) -> SocketAddr {
    SocketAddr::new(endpoint.address, endpoint.port)
}

/// What a pool is made of.
#[derive(Default)]
struct Gathered<'a> {
    /// Those of the requests that no part takes.
    groups: Vec<Group>,
    parts: Parts,
    /// All endpoints, each with its group; the parts' groups come after the others.
    listed: Vec<(usize, &'a Endpoint)>,
}

fn gather<'a>(context: &Context, snapshot: &'a Snapshot) -> Gathered<'a> {
    let endpoints = |group: usize, id: &str| {
        let endpoints = snapshot.pool(id).into_iter().flat_map(|pool| pool.endpoints.iter());
        endpoints.filter(|endpoint| endpoint.protocol == Protocol::Tcp).map(move |endpoint| (group, endpoint))
    };
    let members = &context.config.members;
    if members.is_empty() {
        let id = context.life.id.as_str();
        let parts = snapshot.pool(id).map(|pool| &*pool.matched).unwrap_or_default();
        let of_parts = parts.iter().enumerate().flat_map(|(at, part)| {
            let endpoints = part.endpoints.iter().filter(|endpoint| endpoint.protocol == Protocol::Tcp);
            endpoints.map(move |endpoint| (at + 1, endpoint))
        });
        return Gathered {
            groups: vec![ALONE],
            parts: parts.into(),
            listed: endpoints(0, id).chain(of_parts).collect(),
        };
    }
    let groups = members.iter().map(|member| Group { share: member.share, priority: member.priority }).collect();
    let listed = members.iter().enumerate().flat_map(|(group, member)| endpoints(group, member.pool.as_str()));
    Gathered { groups, parts: Parts::default(), listed: listed.collect() }
}

fn is_known(context: &Context, snapshot: &Snapshot) -> bool {
    let members = &context.config.members;
    let has = |id: &str| snapshot.pool(id).is_some();
    if members.is_empty() { has(context.life.id.as_str()) } else { members.iter().any(|it| has(it.pool.as_str())) }
}

/// The part of its weight that an endpoint gets for its age.
fn age_of(host: &Host, config: &PoolConfig, now: Instant) -> f64 {
    match (config.slow_start, host.since) {
        (Some(window), Some(since)) if config.balancer != Balancer::ConsistentHash => {
            age_part(now.saturating_duration_since(since), window)
        }
        _ => 1.0,
    }
}

/// Who of the members serves, by the candidates and their places. Where zones matter, this instance's zone keeps what its endpoints
/// can carry of its part: instances are taken to be spread evenly over the zones that have endpoints.
fn layout(
    config: &PoolConfig,
    members: &[Arc<Member>],
    groups: &[Group],
    candidates: &[(usize, Candidate)],
    zone: Option<&str>,
    before: Option<&Layout>,
) -> Layout {
    let ready = candidates.iter().map(|(place, _)| place).collect::<BTreeSet<_>>().len();
    let (places, candidates): (Vec<usize>, Vec<Candidate>) = candidates.iter().copied().unzip();
    let Plan { weights: given, panic } = plan(groups, &candidates, config.panic_threshold_percent);
    let mut weights = vec![0_u64; members.len()];
    for (place, part) in places.into_iter().zip(given) {
        if let Some(weight) = weights.get_mut(place) {
            *weight = weight.saturating_add(part);
        }
    }
    let zone = zone.filter(|_| config.zone_aware && !panic);
    let serving = || (0_u32..).zip(members.iter().zip(&weights)).filter(|(_, (_, weight))| **weight > 0);
    let near = |member: &Member| zone.is_some() && member.endpoint.zone.as_deref() == zone;
    let entry = |(place, (member, weight)): (u32, (&Arc<Member>, &u64))| balance::Entry {
        place,
        weight: *weight,
        id: member.host.id,
        near: near(member),
    };
    let entries: Vec<balance::Entry> = serving().map(entry).collect();
    let zones: BTreeSet<&str> = serving().filter_map(|(_, (member, _))| member.endpoint.zone.as_deref()).collect();
    let all: f64 = entries.iter().map(|entry| entry.weight as f64).sum();
    let here: f64 = entries.iter().filter(|entry| entry.near).map(|entry| entry.weight as f64).sum();
    let part = if all > 0.0 { (here / all * zones.len() as f64).min(1.0) } else { 0.0 };
    let picker = Picker::new(config.balancer, &entries, part, before.map(|layout| &layout.picker));
    Layout { weights: weights.into(), picker, panic, ready }
}

/// How many endpoints are in which state.
fn states(pool: &Pool) -> States {
    let mut states = States { panic: pool.rest.panic, ..States::default() };
    for (place, member) in pool.members.iter().enumerate() {
        let count = match () {
            () if !member.endpoint.is_ready() => &mut states.draining,
            () if member.host.is_out_for(Out::Unhealthy) => &mut states.unhealthy,
            () if member.host.is_out_for(Out::Ejected) => &mut states.ejected,
            () if pool.serves(place) => &mut states.serving,
            () => &mut states.standby,
        };
        *count += 1;
    }
    states
}
