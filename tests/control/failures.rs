//! New pods that fail by script: what becomes of a release by its policy, how long that takes, and what it says.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::bed::wait_until;
use crate::pods::pace;
use crate::support::{Control, SOON, Stage, template};

/// How each App's pods do, in the order in which they come: the last word is that of all others.
type Script = BTreeMap<&'static str, Vec<&'static str>>;

/// Ends the script, whatever becomes of the test.
struct End<'a>(&'a AtomicBool);

/// A second release whose pods fail.
struct Case {
    app: &'static str,
    policy: Value,
    /// How its pods do.
    states: &'static [&'static str],
    template: Value,
    more: Value,
    /// The phase in which it ends or stops.
    phase: &'static str,
    /// The cause by which the first pod was recreated.
    cause: Option<&'static str>,
    /// What the status's message, or why a pod was recreated, says.
    says: &'static [&'static str],
}

const REPLICAS: u32 = 4;

// === impl End ===

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Tells the fake kubelet how each pod does.
fn play(stage: &Stage, mut script: Script, end: &AtomicBool) {
    let watching = stage.cluster.client().watch(&format!("/api/v1/namespaces/{}/pods", stage.namespace));
    let (mut told, mut seen) = (BTreeSet::new(), 0);
    while !end.load(Ordering::SeqCst) {
        let events = watching.events();
        for event in events.get(seen..).unwrap_or_default() {
            let metadata = &event["object"]["metadata"];
            let (name, app) = (metadata["name"].as_str().unwrap(), metadata["labels"]["tidegate.dev/app"].as_str());
            let Some(states) = app.and_then(|app| script.get_mut(app)) else { continue };
            if event["type"] == "DELETED" || !told.insert(name.to_owned()) {
                continue;
            }
            let state = if states.len() > 1 { states.remove(0) } else { states[0] };
            show(stage, name, state);
        }
        seen = events.len();
        pace(Duration::from_millis(5));
    }
}

fn show(stage: &Stage, pod: &str, state: &str) {
    let path = format!("/api/v1/namespaces/{}/pods/{pod}", stage.namespace);
    // One that is gone by now needs no word.
    let _ = stage.cluster.client().try_patch(&path, &json!({"metadata": {"annotations": {"bed/state": state}}}));
}

/// A template whose pods do as the script says.
fn scripted() -> Value {
    let mut it = template();
    it["metadata"] = json!({"annotations": {"bed/state": "Hold"}});
    it
}

fn with(pointer: &str, value: Value) -> Value {
    let mut it = scripted();
    it["spec"][pointer] = value;
    it
}

fn cases() -> Vec<Case> {
    // Long enough for a busy machine to say more of a pod than that it has failed.
    let recreate = || json!({"stuckSeconds": 5, "recreate": {"backoffSeconds": 1}});
    let fails = |app, states, cause, says| Case {
        app,
        policy: recreate(),
        states,
        template: scripted(),
        more: json!({}),
        phase: "Healthy",
        cause: Some(cause),
        says,
    };
    let mut hook = scripted();
    hook["spec"]["containers"][0]["lifecycle"] = json!({"postStart": {"exec": {"command": ["register"]}}});
    let init = json!([{"name": "migrate", "image": "migrate:1"}]);
    let late = json!({"progressDeadlineSeconds": 4});
    vec![
        fails(
            "crash-loop",
            &["CrashLoopBackOff", "CrashLoopBackOff", "Ready"],
            "CrashLoop",
            &["crashes again and again, 5 restarts, it ended with exit code 1", "| the database refuses us"],
        ),
        fails(
            "out-of-memory",
            &["OOMKilled", "OOMKilled", "Ready"],
            "OutOfMemory",
            &["was killed for its memory, its last words: connecting to db:5432 | the database refuses us"],
        ),
        fails(
            "no-image",
            &["ImagePullBackOff", "Ready"],
            "ImagePull",
            &["the image of container web cannot be pulled"],
        ),
        fails(
            "hook-fails",
            &["PostStartHookError", "PostStartHookError", "Ready"],
            "Hook",
            &["the postStart hook of container web fails", "the database refuses us"],
        ),
        Case {
            template: with("initContainers", init),
            ..fails(
                "init-hangs",
                &["HookHangs", "HookHangs", "Ready"],
                "Hook",
                &["init container migrate does not end, since", "the database refuses us"],
            )
        },
        Case {
            template: hook,
            ..fails("hook-hangs", &["HookHangs", "Ready"], "Hook", &["postStart hook has not ended"])
        },
        fails("node-gone", &["NodeLost", "Ready"], "NodeGone", &["node node-1 does not answer"]),
        Case {
            policy: json!({"recreate": {"maxPerPod": 2, "backoffSeconds": 1}}),
            phase: "Paused",
            ..fails(
                "never-better",
                &["Ready", "Ready", "Ready", "CrashLoopBackOff"],
                "CrashLoop",
                &["a pod's place was filled anew 2 times, the most that is allowed", "crashes again and again"],
            )
        },
        Case {
            policy: json!({"fail": {}}),
            more: json!({"onFailure": "Abort"}),
            phase: "Degraded",
            cause: None,
            ..fails(
                "may-not-fail",
                &["Ready", "CrashLoopBackOff", "Ready"],
                "",
                &["failurePolicy.fail does not allow: 1 pod: container web crashes", "the database refuses us"],
            )
        },
        Case {
            template: with("nodeSelector", json!({"disk": "none-has-it"})),
            more: late,
            phase: "Paused",
            cause: None,
            ..fails("no-node", &["Ready"], "", &["has 0 of 4 pods available (4 pods: no node takes it (0/1 nodes"])
        },
        Case {
            policy: json!({"ignore": {"maxRatio": 25}}),
            cause: None,
            ..fails(
                "ignored",
                &["CrashLoopBackOff", "Ready"],
                "",
                &["but for 1 pods that failed and are ignored", "the database refuses us", "old ones stay"],
            )
        },
    ]
}

#[test]
fn pods_that_fail_are_told_apart_recreated_ignored_or_the_end() {
    let stage = Stage::new();
    let control = stage.control();
    let cases = cases();
    let script = cases.iter().map(|case| {
        let first = std::iter::repeat_n("Ready", usize::try_from(REPLICAS).unwrap());
        (case.app, first.chain(case.states.iter().copied()).collect())
    });
    let (script, end) = (script.collect(), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| play(&stage, script, &end));
        let _end = End(&end);
        deploy(&stage, &control, &cases);
        stands_in(&stage);
    });
}

fn deploy(stage: &Stage, control: &Control, cases: &[Case]) {
    for case in cases {
        stage.create_app(case.app, REPLICAS, &json!({"blueGreen": {"scaleDownDelaySeconds": 0}}), &scripted());
        stage.release(case.app, &format!("{}-1", case.app), "web:1", &json!({}));
    }
    for case in cases {
        stage.wait_phase(&format!("{}-1", case.app), "Healthy");
    }
    let began = Instant::now();
    for case in cases {
        let mut template = case.template.clone();
        template["spec"]["containers"][0]["image"] = json!("web:2");
        let mut more = json!({"template": template, "failurePolicy": case.policy});
        more.as_object_mut().unwrap().extend(case.more.as_object().unwrap().clone());
        stage.release(case.app, &format!("{}-2", case.app), "web:2", &more);
    }
    println!("{:14} {:9} {:>5} {:>9}  says", "pods", "ends", "after", "recreated");
    for case in cases {
        let status = stage.wait_phase(&format!("{}-2", case.app), case.phase);
        let message = status["message"].as_str().unwrap();
        let recreated = status["recreatedPods"].as_array().map(Vec::as_slice).unwrap_or_default();
        // A log that is not had in time is not waited for: what one pod does not tell, another does.
        let of_cause = recreated.iter().filter(|it| it["cause"].as_str() == case.cause);
        let why: Vec<&str> = of_cause.filter_map(|it| it["why"].as_str()).collect();
        let seconds = began.elapsed().as_secs_f64();
        let said = why.first().copied().unwrap_or(message);
        println!("{:14} {:9} {seconds:4.1}s {:>9}  {said}", case.app, case.phase, status["recreated"]);
        for words in case.says {
            let is_said = message.contains(words) || why.iter().any(|why| why.contains(words));
            assert!(is_said, "{}: no {words:?} in {status:#}\n{}", case.app, control.log());
        }
        assert_eq!((recreated.is_empty(), why.is_empty()), (case.cause.is_none(), case.cause.is_none()), "{status:#}");
        let new = status["revision"].as_str().unwrap();
        let switched = stage.shares(case.app).keys().any(|pool| pool.contains(new));
        assert_eq!(switched, case.phase == "Healthy", "{}: {status:#}", case.app);
    }
}

/// An old pod is in the place of the one that is ignored, until that comes.
fn stands_in(stage: &Stage) {
    let status = stage.status("ignored-2");
    let new = format!("ignored-{}", status["revision"].as_str().unwrap());
    let shares = || stage.shares("ignored").into_values().collect::<Vec<_>>();
    let counts = || stage.counts().into_iter().filter(|(name, _)| name.starts_with("ignored-")).collect::<Vec<_>>();
    wait_until(SOON, "three quarters of the traffic", || {
        let mut shares = shares();
        shares.sort_unstable();
        shares == [250, 750]
    });
    wait_until(SOON, "one old pod", || counts().iter().all(|(name, count)| *count == if *name == new { 4 } else { 1 }));
    let pods = stage.cluster.client().get(&format!("/api/v1/namespaces/{}/pods", stage.namespace));
    let crashed = pods["items"].as_array().unwrap().iter().find(|it| {
        let name = it["metadata"]["name"].as_str().unwrap();
        name.starts_with(&new) && it["metadata"]["annotations"]["bed/state"] == "CrashLoopBackOff"
    });
    show(stage, crashed.unwrap()["metadata"]["name"].as_str().unwrap(), "Ready");
    wait_until(SOON, "all traffic", || shares() == [1_000]);
    wait_until(SOON, "no old pod", || counts().iter().all(|(name, count)| *count == if *name == new { 4 } else { 0 }));
}
