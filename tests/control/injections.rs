//! What people, autoscalers and newer releases do in the middle of a deploy, at every write that the controller makes: while the API
//! server has not heard of it, and when it has. Everything on the way is judged, and what is left in the end. Many Apps are deployed
//! side by side, each meets one thing at one write. (`src/control/plan/tests/injected.rs` is the same over a simulated cluster.)

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use serde_json::{Value, json};

use crate::bed::{WorkDir, poll, wait_until};
use crate::faults::{REPLICAS, VMS, is_whole, strategies, vms};
use crate::kube::objects::deployment_path;
use crate::kube::{ApiProxy, Moment};
use crate::support::{SOON, Stage, cluster, path, template};
use crate::traffic::{Recorder, is_stopped, judge, share};

/// Apps of one stage: so many deploys are under way at once.
const AT_ONCE: usize = 60;
/// About as many writes as a blue-green deploy has; where a deploy has more, further ones are tried by so many.
const WRITES: (usize, usize) = (13, 4);
/// The images of what runs before, of the release that something comes into, and of a newer one.
const IMAGES: [&str; 3] = ["web:1", "web:2", "web:3"];

/// Something that comes once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Injected {
    Abort,
    Freeze,
    /// Until the release says that it stays where it is; then it is to go on.
    Pause,
    /// A newer release.
    Supersede,
    /// A newer release that brings what ran before.
    Rollback,
    /// Another count of the App's.
    Count(u32),
}

const ALL: [Injected; 7] = [
    Injected::Abort,
    Injected::Freeze,
    Injected::Pause,
    Injected::Supersede,
    Injected::Rollback,
    Injected::Count(REPLICAS + 1),
    Injected::Count(REPLICAS - 1),
];

/// An App whose second release meets something at one write.
#[derive(Debug)]
struct Case {
    app: String,
    it: Injected,
    number: usize,
    moment: Moment,
    /// How far the release was when it came; empty where there was no such write.
    met: OnceLock<Met>,
}

#[derive(Debug)]
struct Met {
    /// It had ended.
    late: bool,
    /// Its revision's pods.
    pods: u64,
}

/// How an App ends: the phase of its newest release, who has traffic, and each image's pods.
type End = (String, BTreeSet<String>, BTreeMap<String, u64>);

/// The objects of a stage as they are by what was told so far, by kind and name.
struct Now<'a> {
    recorder: &'a Recorder,
    seen: BTreeMap<&'static str, usize>,
    objects: BTreeMap<(&'static str, String), Value>,
}

// === impl Case ===

impl Case {
    fn new(it: Injected, number: usize, moment: Moment) -> Arc<Self> {
        let words = format!("{it:?}-{moment:?}").to_lowercase().replace(['(', ')'], "");
        Arc::new(Self { app: format!("{words}-{number:03}"), it, number, moment, met: OnceLock::new() })
    }

    fn release(&self, number: u8) -> String {
        format!("{}-{number}", self.app)
    }

    /// At the API server itself, while a write is held.
    fn inject(&self, stage: &Stage) {
        let (second, third, client) = (self.release(2), self.release(3), stage.cluster.client());
        let status = stage.status(&second);
        let name = format!("{}-{}", self.app, status["revision"].as_str().unwrap_or_default());
        let deployment = client.try_get(&deployment_path(&stage.namespace, &name)).unwrap().unwrap_or_default();
        let pods = deployment["spec"]["replicas"].as_u64().unwrap_or_default();
        // Before it is done: where it cannot be, the end is another than is waited for.
        self.met.set(Met { late: is_final(&status), pods }).expect("it comes once");
        match self.it {
            Injected::Abort => stage.control_of(&second, &json!({"abort": true})),
            Injected::Freeze => stage.control_of(&second, &json!({"freeze": true})),
            Injected::Pause => stage.control_of(&second, &json!({"paused": true})),
            Injected::Supersede => stage.release(&self.app, &third, IMAGES[2], &json!({})),
            Injected::Rollback => stage.release(&self.app, &third, IMAGES[0], &json!({"rollback": true})),
            Injected::Count(count) => {
                let app = path(&stage.namespace, "apps", &self.app);
                client.patch(&app, &json!({"spec": {"replicas": count}}));
            }
        }
    }

    fn is_in_time(&self) -> bool {
        self.met.get().is_some_and(|met| !met.late)
    }

    /// Whether another release came.
    fn is_replaced(&self) -> bool {
        self.met.get().is_some() && matches!(self.it, Injected::Supersede | Injected::Rollback)
    }

    /// How it must end, by the invariants. What comes too late finds a release that has ended, and leaves it as it is.
    fn wanted(&self, now: &Now, before: &str) -> End {
        let (phase, serves, count) = match self.it {
            Injected::Abort | Injected::Freeze if self.is_in_time() => ("Degraded", before, REPLICAS),
            Injected::Supersede if self.is_replaced() => ("Healthy", IMAGES[2], REPLICAS),
            Injected::Rollback if self.is_replaced() => ("Healthy", IMAGES[0], REPLICAS),
            Injected::Count(count) if self.met.get().is_some() => ("Healthy", IMAGES[1], count),
            _ => ("Healthy", IMAGES[1], REPLICAS),
        };
        let mut counts = BTreeMap::from([(serves.to_owned(), u64::from(count))]);
        if self.it == Injected::Freeze && self.is_in_time() {
            // One that had not begun has no plan, and no pods.
            let kept = now.release(&self.release(2))["status"]["plan"][0]["pods"].as_u64().unwrap_or_default();
            counts.insert(IMAGES[1].to_owned(), kept);
        }
        // VMs are not counted.
        counts.retain(|side, count| side != VMS && *count > 0);
        (phase.to_owned(), BTreeSet::from([serves.to_owned()]), counts)
    }

    /// How it is.
    fn is(&self, now: &Now) -> End {
        let newest = if self.is_replaced() { 3 } else { 2 };
        let phase = now.release(&self.release(newest))["status"]["phase"].as_str().unwrap_or_default();
        (phase.to_owned(), now.serving(&self.app), now.counts(&self.app))
    }

    fn has_ended(&self, now: &Now, before: &str) -> bool {
        let second = now.release(&self.release(2));
        // A pause in time is taken back by who saw that it holds, and by nobody else.
        let is_paused = self.is_in_time() && second["spec"]["control"]["paused"] == true;
        is_final(&second["status"]) && !is_paused && self.is(now) == self.wanted(now, before)
    }

    /// Demands what must hold of everything on the way.
    fn judge(&self, now: &Now, floor: usize) {
        let second = now.release(&self.release(2));
        let floor = match self.it {
            // What a freeze leaves may be little, but never nothing.
            Injected::Freeze => 1,
            Injected::Count(count) => floor.saturating_sub(usize::try_from(REPLICAS.saturating_sub(count)).unwrap()),
            _ => floor,
        };
        judge(now.recorder, &self.app, floor);
        let had = self.met.get().map_or(0, |met| met.pods);
        let kept = now.counts(&self.app).get(IMAGES[1]).copied().unwrap_or_default();
        assert!(self.it != Injected::Freeze || !self.is_in_time() || kept >= had, "{self:?} keeps {kept}: {second:#}");
    }
}

fn is_final(status: &Value) -> bool {
    ["Healthy", "Degraded", "Superseded"].iter().any(|it| status["phase"] == *it)
}

// === impl Now ===

impl<'a> Now<'a> {
    fn of(recorder: &'a Recorder) -> Self {
        Self { recorder, seen: BTreeMap::new(), objects: BTreeMap::new() }
    }

    fn look(&mut self) {
        for kind in ["deployment", "policy", "release"] {
            let seen = self.seen.entry(kind).or_default();
            for event in self.recorder.told(kind, *seen) {
                *seen += 1;
                let key = (kind, event["object"]["metadata"]["name"].as_str().unwrap().to_owned());
                match event["type"] == "DELETED" {
                    true => self.objects.remove(&key),
                    false => self.objects.insert(key, event["object"].clone()),
                };
            }
        }
    }

    fn release(&self, name: &str) -> &Value {
        self.objects.get(&("release", name.to_owned())).unwrap_or(&Value::Null)
    }

    /// The images of who has traffic, by a share or a match, or the VMs.
    fn serving(&self, app: &str) -> BTreeSet<String> {
        // Without a policy nobody was switched yet: that is so before a migration alone.
        let Some(policy) = self.objects.get(&("policy", app.to_owned())) else {
            return BTreeSet::from([VMS.to_owned()]);
        };
        let members = policy["spec"]["members"].as_array().unwrap().iter();
        let serve = members.filter(|it| share(it).1 > 0 || it["match"].is_object());
        let image = |side: String| match self.objects.get(&("deployment", side.clone())) {
            Some(deployment) => image(deployment),
            None => side,
        };
        serve.map(|it| image(share(it).0)).collect()
    }

    /// The pods that are asked for, by image.
    fn counts(&self, app: &str) -> BTreeMap<String, u64> {
        let start = format!("{app}-");
        let of = self.objects.range(("deployment", start.clone())..);
        let of = of.take_while(|((kind, name), _)| *kind == "deployment" && name.starts_with(&start));
        let counts = of.map(|(_, it)| (image(it), it["spec"]["replicas"].as_u64().unwrap()));
        counts.filter(|(_, count)| *count > 0).collect()
    }
}

fn image(deployment: &Value) -> String {
    deployment["spec"]["template"]["spec"]["containers"][0]["image"].as_str().unwrap().to_owned()
}

/// Apps whose first revision serves, or VMs do where they migrate, each known to a gateway that every switch waits for.
fn begin(stage: &Stage, strategy: &Value, cases: &[Arc<Case>]) {
    let client = stage.cluster.client();
    let migrates = !strategy["migrate"].is_null();
    for case in cases {
        stage.create_app(&case.app, REPLICAS, strategy, &template());
        if !migrates {
            stage.release(&case.app, &case.release(1), IMAGES[0], &json!({}));
        }
    }
    for Case { app, .. } in cases.iter().map(|it| &**it).filter(|_| !migrates) {
        stage.wait_phase(&format!("{app}-1"), "Healthy");
        // The last write of the first release is no write of the second.
        let told = || client.get(&path(&stage.namespace, "apps", app))["status"]["release"].clone();
        wait_until(SOON, "an App that tells of its first release", || told() == format!("{app}-1 Healthy"));
    }
    let pool = |case: &Arc<Case>| format!("app/{}/{}/http", stage.namespace, case.app);
    wait_until(SOON, "a gateway that serves them all", || {
        let known = stage.gateways();
        let known = known["gateways"].as_array().unwrap();
        migrates || cases.iter().all(|case| known.iter().any(|it| it["pools"][&pool(case)]["applied"].is_i64()))
    });
}

/// Deploys the second release of each App, side by side, to its end. Gives how many ended because another one took their place.
fn deploy(strategy: &Value, floor: usize, cases: &[Arc<Case>]) -> usize {
    let (_vms, source) = vms();
    let apps: Vec<&str> = cases.iter().map(|it| it.app.as_str()).collect();
    let stage = Arc::new(Stage::with_apps(&apps, &source));
    let proxy = ApiProxy::start(cluster());
    let files = WorkDir::new("proxied");
    let control = stage.control_over(&files.write("kubeconfig", proxy.kubeconfig()), "");
    begin(&stage, strategy, cases);
    let recorder = Recorder::start(&stage);
    for case in cases {
        let (it, at) = (Arc::clone(case), Arc::clone(&stage));
        proxy.at_write(&case.app, case.number, case.moment, move || it.inject(&at));
        stage.release(&case.app, &case.release(2), IMAGES[1], &json!({}));
    }
    let before = if strategy["migrate"].is_null() { IMAGES[0] } else { VMS };
    let (mut now, mut open) = (Now::of(&recorder), cases.to_vec());
    let over = poll(3 * SOON, || {
        now.look();
        open.retain(|case| !case.has_ended(&now, before));
        for second in open.iter().map(|it| it.release(2)).filter(|it| is_stopped(now.release(it))) {
            stage.control_of(&second, &json!({"paused": false}));
        }
        open.is_empty().then_some(())
    });
    for case in &open {
        let second = &now.release(&case.release(2))["status"];
        println!("{case:?}: {:?}, not {:?}: {second:#}", case.is(&now), case.wanted(&now, before));
    }
    assert!(over.is_some(), "{} of {} do not end as they must\n{}", open.len(), cases.len(), control.log());
    cases.iter().for_each(|case| case.judge(&now, floor));
    let is_superseded = |case: &&Arc<Case>| now.release(&case.release(2))["status"]["phase"] == "Superseded";
    cases.iter().filter(is_superseded).count()
}

/// What comes at the write of this number: everything where a whole sweep is asked for; else one thing before and one after it, in
/// turn.
fn at_write(number: usize) -> Vec<Arc<Case>> {
    let moments = [Moment::Before, Moment::After].into_iter().enumerate();
    let at = |(after, moment): (usize, Moment)| {
        let turn = (2 * number + after) % ALL.len();
        let come = ALL.into_iter().enumerate().filter(move |(which, _)| is_whole() || *which == turn);
        come.map(move |(_, it)| Case::new(it, number, moment))
    };
    moments.flat_map(at).collect()
}

#[test]
fn whatever_comes_at_every_write_leaves_traffic_counts_and_phases_as_they_must_be() {
    for (name, strategy, floor) in strategies() {
        let began = Instant::now();
        let (mut all, mut superseded, mut numbers) = (Vec::new(), 0, 0..WRITES.0);
        // On to a write that no deploy had before it ended.
        while !numbers.is_empty() {
            let cases: Vec<Arc<Case>> = numbers.clone().flat_map(at_write).collect();
            superseded += cases.chunks(AT_ONCE).map(|some| deploy(&strategy, floor, some)).sum::<usize>();
            let goes_on = cases.iter().any(|case| case.number + 1 == numbers.end && case.is_in_time());
            numbers = numbers.end..numbers.end + if goes_on { WRITES.1 } else { 0 };
            all.extend(cases);
        }
        let in_time: Vec<&Arc<Case>> = all.iter().filter(|case| case.is_in_time()).collect();
        let of = |it: Injected| in_time.iter().filter(|case| case.it == it).count();
        let writes = in_time.iter().map(|case| case.number + 1).max().unwrap_or_default();
        let (count, told) = (in_time.len(), ALL.map(|it| format!("{it:?} {}", of(it))).join(", "));
        let (late, seconds) = (all.len() - count, began.elapsed().as_secs_f64());
        println!("{name:10} {writes:3} writes, {count:3} in time ({told}), {late} late, {seconds:.0} s");
        assert!(writes >= 8, "{name}: {writes} writes are no deploy");
        assert!(count * 10 >= writes * at_write(0).len() * 8, "{name}: only {count} were in time");
        assert!(ALL.iter().all(|it| of(*it) > 0), "{name}: {told}");
        // But for one whose last write was under way.
        let replaced = of(Injected::Supersede) + of(Injected::Rollback);
        assert!(superseded * 2 > replaced, "{name}: of {replaced} only {superseded} made place for another");
    }
}
