//! The commands of people and of CI, over the real API server.

use std::process::Output;

use serde_json::{Value, json};

use crate::bed::wait_until;
use crate::support::{SOON, Stage, path, template};

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap_or_else(|| panic!("killed: {output:?}"))
}

#[test]
fn a_deploy_that_is_waited_for_tells_its_steps_and_a_rollback_goes_back() {
    let stage = Stage::new();
    let _control = stage.control();
    stage.create_app("web", 2, &json!({"batch": {"batches": 2, "drainSeconds": 1}}), &template());
    assert!(stdout(&stage.run(&["app"])).contains("web  0/2"), "{:?}", stage.run(&["app"]));
    let first = stage.run(&["deploy", "web", "--image", "web:1", "--wait"]);
    assert_eq!(code(&first), 0, "{first:?}");
    assert!(stdout(&first).contains("created web-1 of"), "{first:?}");
    let second = stage.run(&["deploy", "web", "--image", "web:2", "--wait", "--timeout-seconds", "120"]);
    let said = stdout(&second);
    assert_eq!(code(&second), 0, "{second:?}");
    for word in ["web-2 Progressing", "part 1 of 2", "part 2 of 2", "(new)", "web-2 Healthy"] {
        assert!(said.contains(word), "no {word:?} in\n{said}");
    }
    // Again, as a pipeline that runs twice.
    let again = stage.run(&["deploy", "web", "--image", "web:2", "--wait"]);
    assert!(code(&again) == 0 && stdout(&again).contains("web-2 brings this already"), "{again:?}");
    let back = stage.run(&["rollback", "web", "--wait"]);
    assert_eq!(code(&back), 0, "{back:?}");
    assert!(stdout(&back).contains("going back to what web-1 brought: web:1"), "{back:?}");
    let release = stage.cluster.client().get(&path(&stage.namespace, "releases", "web-3"));
    assert_eq!((&release["spec"]["image"], &release["spec"]["rollback"]), (&json!("web:1"), &json!(true)));
    let shown: Value = serde_json::from_str(&stdout(&stage.run(&["status", "web", "--json"]))).unwrap();
    assert_eq!(shown["release"]["status"]["phase"], "Healthy", "{shown:#}");
    let shown = stdout(&stage.run(&["app", "web"]));
    assert!(shown.contains("web-3") && shown.contains("web-1") && shown.contains("Healthy"), "{shown}");
}

#[test]
fn a_release_waits_for_a_word_that_is_given_in_ones_own_name_and_is_aborted_by_another() {
    let stage = Stage::new();
    let _control = stage.control();
    let strategy = json!({"blueGreen": {"approval": true, "scaleDownDelaySeconds": 0}});
    stage.create_app("web", 1, &strategy, &template());
    assert_eq!(code(&stage.run(&["deploy", "web", "--image", "web:1", "--wait"])), 0);
    assert_eq!(code(&stage.run(&["deploy", "web", "--image", "web:2"])), 0);
    let is_asked =
        |status: &Value| status["message"].as_str().is_some_and(|it| it.contains("no live Approval of web-2"));
    stage.wait("web-2", "waiting for a word", is_asked);
    let late = stage.run(&["deploy", "web", "--image", "web:2", "--wait", "--timeout-seconds", "1"]);
    assert!(code(&late) == 6 && stderr(&late).contains("no live Approval of web-2"), "{late:?}");
    let told = stdout(&stage.run(&["approve", "web"]));
    assert!(told.contains("admin Approved web:2 of web-2"), "{told}");
    assert_eq!(code(&stage.run(&["status", "web", "--watch"])), 0);
    assert_eq!(stage.status("web-2")["phase"], "Healthy");

    stage.run(&["deploy", "web", "--image", "web:3"]);
    let is_asked =
        |status: &Value| status["message"].as_str().is_some_and(|it| it.contains("no live Approval of web-3"));
    stage.wait("web-3", "waiting for a word", is_asked);
    let shown = stdout(&stage.run(&["status", "web"]));
    assert!(shown.contains("Approval") && shown.contains("now, since"), "{shown}");
    let gone = stage.run(&["abort", "web", "--wait"]);
    assert!(code(&gone) == 0 && stdout(&gone).contains("web-3 Degraded"), "{gone:?}");
    let nothing = stage.run(&["abort", "web"]);
    assert!(code(&nothing) == 1 && stderr(&nothing).contains("web-3 has ended Degraded"), "{nothing:?}");
}

#[test]
fn ci_is_told_by_the_exit_code_what_became_of_a_release_whose_pods_fail() {
    let stage = Stage::new();
    let _control = stage.control();
    let mut broken = template();
    broken["metadata"] = json!({"annotations": {"bed/state": "ImagePullBackOff"}});
    stage.create_app("web", 1, &json!({"blueGreen": {"scaleDownDelaySeconds": 0}}), &broken);
    let app = path(&stage.namespace, "apps", "web");
    stage.cluster.client().patch(&app, &json!({"spec": {"progressDeadlineSeconds": 2}}));
    let stopped = stage.run(&["deploy", "web", "--image", "web:1", "--wait"]);
    assert_eq!(code(&stopped), 3, "{stopped:?}");
    assert!(stderr(&stopped).contains("the image of container web cannot be pulled"), "{stopped:?}");
    let back = stage.run(&["deploy", "web", "--image", "web:2", "--on-failure", "abort", "--wait"]);
    assert_eq!(code(&back), 4, "{back:?}");
    // It is tried again when somebody says so, and has failed again.
    stage.run(&["deploy", "web", "--image", "web:3"]);
    stage.wait("web-3", "stopped", |status| status["failure"].is_object());
    let again = stage.run(&["resume", "web", "--wait"]);
    assert_eq!(code(&again), 3, "{again:?}");
    assert_eq!(
        stage.cluster.client().get(&path(&stage.namespace, "releases", "web-3"))["spec"]["control"]["retries"],
        1
    );
}

#[test]
fn a_canary_goes_on_by_promotion_and_its_image_goes_elsewhere_only_with_an_approval() {
    let stage = Stage::new();
    let _control = stage.control();
    let canary = json!({"canary": {"scaleDownDelaySeconds": 0, "steps": [{"share": 50, "pauseSeconds": 0}]}});
    stage.create_app("web", 2, &canary, &template());
    let image = |digit: char| format!("web@sha256:{}", String::from(digit).repeat(64));
    assert_eq!(code(&stage.run(&["deploy", "web", "--image", &image('1'), "--wait"])), 0);
    stage.run(&["deploy", "web", "--image", &image('2')]);
    let paused =
        |status: &Value| status["message"].as_str().is_some_and(|it| it.contains("a pause until a person goes on"));
    stage.wait("web-2", "in its pause", paused);
    assert_eq!(stage.shares("web").values().copied().collect::<Vec<_>>(), [500, 500]);
    let held = stage.run(&["promote", "web", "--to", &format!("{}/live", stage.namespace)]);
    assert!(code(&held) == 1 && stderr(&held).contains("only what has ended Healthy"), "{held:?}");
    let done = stage.run(&["promote", "web", "--wait"]);
    assert_eq!(code(&done), 0, "{done:?}");

    stage.create_app("live", 1, &json!({"rolling": {}}), &template());
    let promoted = stage.run(&["promote", "web", "--to", &format!("{}/live", stage.namespace)]);
    assert_eq!(code(&promoted), 0, "{promoted:?}");
    let asks = |status: &Value| status["message"].as_str().is_some_and(|it| it.contains("no live Approval of live-1"));
    stage.wait("live-1", "waiting for a word", asks);
    let policy = stage.cluster.client().try_get(&path(&stage.namespace, "trafficpolicies", "live")).unwrap();
    assert!(policy.is_none(), "it has traffic before it is approved: {policy:?}");
    assert_eq!(code(&stage.run(&["approve", "live"])), 0);
    stage.wait_phase("live-1", "Healthy");
    let release = stage.cluster.client().get(&path(&stage.namespace, "releases", "live-1"));
    assert_eq!(release["spec"]["image"], image('2'));
    assert_eq!(release["spec"]["promotedFrom"], format!("{}/web-2", stage.namespace));
}

#[test]
fn a_frozen_release_loses_its_traffic_and_keeps_its_pods() {
    let stage = Stage::new();
    let _control = stage.control();
    let canary = json!({"canary": {"scaleDownDelaySeconds": 0, "steps": [{"share": 50, "pauseSeconds": 0}]}});
    stage.create_app("web", 2, &canary, &template());
    assert_eq!(code(&stage.run(&["deploy", "web", "--image", "web:1", "--wait"])), 0);
    stage.run(&["deploy", "web", "--image", "web:2"]);
    let paused =
        |status: &Value| status["message"].as_str().is_some_and(|it| it.contains("a pause until a person goes on"));
    let revision = stage.wait("web-2", "in its pause", paused)["revision"].as_str().unwrap().to_owned();
    let frozen = stage.run(&["freeze", "web", "--wait"]);
    assert!(code(&frozen) == 0 && stdout(&frozen).contains("of its pods are kept"), "{frozen:?}");
    assert!(stage.shares("web").keys().all(|pool| !pool.contains(&revision)), "{:?}", stage.shares("web"));
    assert!(stage.counts()[&format!("web-{revision}")] > 0);
    assert_eq!(code(&stage.run(&["abort", "web", "--wait"])), 0);
    wait_until(SOON, "no pod of it", || stage.counts()[&format!("web-{revision}")] == 0);
}

#[test]
fn what_cannot_be_done_names_its_cause_and_what_to_do() {
    let stage = Stage::new();
    let unknown = stage.run(&["status", "web"]);
    assert_eq!(code(&unknown), 1);
    assert!(stderr(&unknown).contains("has no App web; there is none at all"), "{unknown:?}");
    let nowhere = stage.run_as("/nonexistent/kubeconfig", &["app"]);
    assert!(code(&nowhere) == 1 && stderr(&nowhere).contains("name a kubeconfig by --kubeconfig"), "{nowhere:?}");
    assert_eq!(code(&stage.run(&["deploy", "web"])), 2, "clap's own");
    assert_eq!(code(&stage.run(&["abort", "web", "--timeout-seconds", "1"])), 2, "a limit of a wait that is none");

    // A user who may only look.
    let kubeconfig = stage.kubeconfig_of("ann", "tidegate-viewer");
    stage.create_app("web", 1, &json!({"rolling": {}}), &template());
    assert_eq!(code(&stage.run_as(&kubeconfig, &["app", "web"])), 0);
    let refused = stage.run_as(&kubeconfig, &["deploy", "web", "--image", "web:1"]);
    assert_eq!(code(&refused), 1);
    assert!(stderr(&refused).contains("deploy/kubernetes/control-users.yaml"), "{refused:?}");
    // And one who may deploy, whose word is in their own name.
    let kubeconfig = stage.kubeconfig_of("bob", "tidegate-deployer");
    let created = stage.run_as(&kubeconfig, &["deploy", "web", "--image", "web:1"]);
    assert_eq!(code(&created), 0, "{created:?}");
    let told = stage.run_as(&kubeconfig, &["approve", "web"]);
    assert!(stdout(&told).contains("bob Approved web:1 of web-1"), "{told:?}");
}
