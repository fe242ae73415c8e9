//! What commands ask for, and what they refuse.

use std::time::Duration;

use kube::ResourceExt;
use serde_json::{Value, json};

use super::fake::{Fake, app, release};
use super::*;
use crate::control::resource::approval::Verdict;
use crate::control::resource::release::Release;

fn kept(releases: Vec<Release>) -> Fake {
    Fake { apps: vec![app("shop", "web"), app("live", "web")], releases: releases.into(), ..Fake::default() }
}

fn healthy(name: &str, image: &str) -> Release {
    release(name, image, json!({"phase": "Healthy"}))
}

async fn asked(fake: &Fake, request: Request) -> (Result<(), DeployError>, String) {
    let mut said = String::new();
    let done = perform(fake, "shop", request, &mut |text| {
        said += text;
        Ok(())
    })
    .await;
    (done, said)
}

async fn refused(fake: &Fake, request: Request) -> String {
    asked(fake, request).await.0.unwrap_err().to_string()
}

fn new(image: &str) -> NewRelease {
    let (app, image) = ("web".to_owned(), image.to_owned());
    NewRelease { app, image, container: None, environment: None, on_failure: None, wait: Wait::default() }
}

fn deploys(image: &str) -> Request {
    Request::Deploy(new(image))
}

fn rollback(to: Option<&str>) -> Request {
    Request::Rollback { app: "web".to_owned(), to: to.map(str::to_owned), wait: Wait::default() }
}

fn word(word: Word) -> Request {
    Request::Ask { app: "web".to_owned(), word, wait: Wait::default() }
}

fn promote(how: Promotion) -> Request {
    Request::Promote { app: "web".to_owned(), how, wait: Wait::default() }
}

fn last(fake: &Fake) -> Release {
    fake.releases.lock().unwrap().last().unwrap().clone()
}

fn control(fake: &Fake) -> Value {
    serde_json::to_value(last(fake).spec.control).unwrap()
}

#[tokio::test]
async fn a_deploy_creates_the_next_release_of_the_apps_template_with_the_image_in_it() {
    let fake = kept(vec![healthy("web-9", "web:9")]);
    let (done, said) = asked(&fake, deploys("web:10")).await;
    done.unwrap();
    let made = last(&fake);
    assert_eq!((made.name_any().as_str(), made.spec.image.as_str()), ("web-10", "web:10"));
    assert_eq!(made.spec.template["spec"]["containers"][0]["image"], "web:10");
    assert_eq!(made.labels()["tidegate.dev/app"], "web");
    assert!(said.contains("created web-10 of shop/web"), "{said}");
    // A pipeline that runs again finds its own release.
    let (done, said) = asked(&fake, deploys("web:10")).await;
    done.unwrap();
    assert!(said.contains("web-10 brings this already"), "{said}");
    assert_eq!(fake.releases.lock().unwrap().len(), 2);
}

#[tokio::test]
async fn what_failed_is_deployed_again_and_who_loses_its_place_is_told() {
    let fake = kept(vec![release("web-1", "web:1", json!({"phase": "Degraded"}))]);
    asked(&fake, deploys("web:1")).await.0.unwrap();
    assert_eq!(last(&fake).name_any(), "web-2");
    let (done, said) = asked(&fake, deploys("web:3")).await;
    done.unwrap();
    assert!(said.contains("web-2 is under way and loses its place"), "{said}");
}

#[tokio::test]
async fn of_two_who_deploy_at_once_each_has_a_release() {
    let fake = kept(Vec::new());
    *fake.faster.lock().unwrap() = vec!["web-1".to_owned()];
    asked(&fake, deploys("web:1")).await.0.unwrap();
    assert_eq!(last(&fake).name_any(), "web-2");
}

#[tokio::test]
async fn what_is_not_there_is_named_beside_what_is() {
    let fake = kept(Vec::new());
    let status = |app: &str, release: Option<&str>| Request::Status {
        app: app.to_owned(),
        release: release.map(str::to_owned),
        watch: false,
        json: false,
    };
    assert_eq!(refused(&fake, status("wbe", None)).await, "namespace shop has no App wbe; there are web");
    assert!(refused(&fake, status("web", None)).await.contains("tidegate deploy web --image IMAGE"));
    let fake = kept(vec![healthy("web-1", "web:1")]);
    assert!(refused(&fake, status("web", Some("web-2"))).await.contains("has no Release web-2; it has web-1"));
    let other = NewRelease { container: Some("log".to_owned()), ..new("x:1") };
    assert!(refused(&fake, Request::Deploy(other)).await.contains("no container \"log\""));
}

#[tokio::test]
async fn a_rollback_goes_to_the_last_other_image_that_ended_well() {
    let fake = kept(vec![
        healthy("web-1", "web:1"),
        healthy("web-2", "web:2"),
        healthy("web-3", "web:2"),
        release("web-4", "web:4", json!({"phase": "Degraded"})),
    ]);
    asked(&fake, rollback(None)).await.0.unwrap();
    let made = last(&fake);
    assert_eq!((made.spec.image.as_str(), made.spec.rollback), ("web:1", true));
    assert_eq!(made.spec.template, healthy("web-1", "web:1").spec.template);
    assert!(refused(&fake, rollback(None)).await.contains("tidegate abort web"), "it is under way");
    assert!(refused(&fake, rollback(Some("web-4"))).await.contains("never had all traffic"));
    let fake = kept(vec![healthy("web-1", "web:1")]);
    assert!(refused(&fake, rollback(None)).await.contains("no earlier Release"));
}

#[tokio::test]
async fn words_to_a_release_are_fields_of_its_control_and_repeats_are_none() {
    let failed = json!({"phase": "Paused", "failure": {"reason": "late", "retries": 2}});
    let mut held = release("web-1", "web:1", failed);
    held.spec.control.retries = 2;
    held.spec.control.target_step = Some(3);
    let fake = kept(vec![held]);
    asked(&fake, word(Word::Resume(vec!["edge-7".to_owned()]))).await.0.unwrap();
    assert_eq!(control(&fake)["retries"], 3);
    assert_eq!(control(&fake)["ignoreGateways"], json!(["edge-7"]));
    assert_eq!(control(&fake).get("targetStep"), None);
    for _ in 0..2 {
        asked(&fake, word(Word::Abort)).await.0.unwrap();
        assert_eq!(control(&fake)["abort"], true);
    }
    let fake = kept(vec![healthy("web-1", "web:1")]);
    assert!(refused(&fake, word(Word::Abort)).await.contains("`tidegate rollback web` goes back"));
    // What is frozen has ended, and is aborted all the same.
    let mut frozen = release("web-2", "web:2", json!({"phase": "Degraded"}));
    frozen.spec.control.freeze = true;
    let fake = kept(vec![frozen]);
    asked(&fake, word(Word::Abort)).await.0.unwrap();
}

#[tokio::test]
async fn a_promotion_goes_to_the_next_pause_of_people_to_a_step_or_to_the_end() {
    let pause = |seconds: Value| json!({"action": "Pause", "seconds": seconds});
    let step = || json!({"action": "AwaitAck"});
    let plan = json!([pause(Value::Null), step(), pause(json!(5)), pause(Value::Null), step()]);
    let at =
        |index: u32| release("web-1", "web:1", json!({"phase": "Paused", "plan": plan, "currentStepIndex": index}));
    for (from, how, wanted) in
        [(0, Promotion::Next, 3), (3, Promotion::Next, 5), (2, Promotion::Next, 3), (0, Promotion::Step(2), 1)]
    {
        let fake = kept(vec![at(from)]);
        asked(&fake, promote(how.clone())).await.0.unwrap();
        assert_eq!(control(&fake)["targetStep"], wanted, "{from} {how:?}");
    }
    let fake = kept(vec![at(1)]);
    assert!(refused(&fake, promote(Promotion::Next)).await.contains("is in no pause"));
    assert!(refused(&fake, promote(Promotion::Step(6))).await.contains("the steps 1 to 5"));
    asked(&fake, promote(Promotion::Full)).await.0.unwrap();
    assert_eq!(control(&fake)["promoteFull"], true);
}

#[tokio::test]
async fn only_what_was_tested_by_its_digest_goes_elsewhere() {
    let to = || promote(Promotion::Elsewhere("live/web".to_owned()));
    let image = "web@sha256:0a";
    let fake = kept(vec![healthy("web-1", image)]);
    let (done, said) = asked(&fake, to()).await;
    done.unwrap();
    let made = last(&fake);
    assert_eq!((made.namespace().as_deref(), made.spec.image.as_str()), (Some("live"), image));
    assert_eq!(made.spec.promoted_from.as_deref(), Some("shop/web-1"));
    assert!(said.contains("tidegate approve web --namespace live --release web-1"), "{said}");
    assert!(refused(&kept(vec![healthy("web-1", "web:1")]), to()).await.contains("digest"));
    let failed = release("web-1", image, json!({"phase": "Degraded"}));
    assert!(refused(&kept(vec![failed]), to()).await.contains("only what has ended Healthy"));
    let nowhere = promote(Promotion::Elsewhere("live".to_owned()));
    assert!(refused(&kept(vec![healthy("web-1", image)]), nowhere).await.contains("NAMESPACE/APP"));
}

#[tokio::test]
async fn a_promotion_takes_the_environment_of_where_it_goes_and_never_another_image() {
    let mut fake = kept(Vec::new());
    for (app, name) in fake.apps.iter_mut().zip(["test", "production"]) {
        let of = json!([{"name": name, "args": [format!("--{name}")], "env": [{"name": "WHERE", "value": name}]}]);
        (app.spec.environment, app.spec.environments) = (Some(name.to_owned()), serde_json::from_value(of).unwrap());
    }
    let image = "web@sha256:0a";
    asked(&fake, deploys(image)).await.0.unwrap();
    let tested = last(&fake);
    fake.releases.lock().unwrap()[0].status = serde_json::from_value(json!({"phase": "Healthy"})).unwrap();
    asked(&fake, promote(Promotion::Elsewhere("live/web".to_owned()))).await.0.unwrap();
    let promoted = last(&fake);
    for (release, name) in [(&tested, "test"), (&promoted, "production")] {
        let container = &release.spec.template["spec"]["containers"][0];
        assert_eq!((&container["image"], release.spec.image.as_str()), (&json!(image), image));
        assert_eq!(container["args"], json!([format!("--{name}")]));
        assert_eq!(release.spec.environment.as_deref(), Some(name));
    }
    let nowhere = NewRelease { environment: Some("stage".to_owned()), ..new("web:2") };
    let said = refused(&fake, Request::Deploy(nowhere)).await;
    assert!(said.contains("no environment \"stage\"") && said.contains("test"), "{said}");
}

#[tokio::test]
async fn an_approval_is_in_ones_own_name_about_the_very_image() {
    let fake = kept(vec![release("web-1", "web@sha256:0a", json!({"phase": "Paused"}))]);
    let approve = |reject| Request::Approve { app: "web".to_owned(), release: None, reject, hours: 2 };
    asked(&fake, approve(false)).await.0.unwrap();
    asked(&fake, approve(true)).await.0.unwrap();
    let given = fake.approvals.lock().unwrap().clone();
    let spec = &given[0].spec;
    assert_eq!((spec.release.as_str(), spec.image.as_str(), spec.by.as_str()), ("web-1", "web@sha256:0a", "ann"));
    assert_eq!((spec.verdict, given[1].spec.verdict), (Verdict::Approved, Verdict::Rejected));
    assert!(spec.expires_at.since(crate::control::resource::moment::Moment::now()) > Duration::from_secs(7_000));
    assert!(refused(&kept(vec![healthy("web-1", "web:1")]), approve(false)).await.contains("has ended Healthy"));
}

#[tokio::test]
async fn who_waits_longer_than_allowed_is_told_why_it_waits() {
    let fake = kept(vec![release("web-1", "web:1", json!({"phase": "Progressing", "message": "step 2 of 8: pods"}))]);
    let release = last(&fake);
    let begun = actions::Begun { namespace: "shop".to_owned(), release, wanted: watch::Wanted::Healthy };
    let mut said = String::new();
    let mut say = |text: &str| {
        said += text;
        Ok(())
    };
    let impatient = Patience::impatient(Duration::from_millis(20));
    let late = watch::until_over(&fake, &begun, impatient, &mut say).await.unwrap_err();
    assert_eq!(late.exit_code(), 6);
    assert!(late.to_string().contains("step 2 of 8: pods"), "{late}");
    assert_eq!(said.matches("Progressing").count(), 1, "a line for each change, not for each look: {said}");
}

/// A keeper with this AppTemplate in namespace `catalogue`, and a file of values.
fn with_catalogue(values: &str) -> (Fake, FromCatalogue, tempfile::TempDir) {
    let mut fake = kept(Vec::new());
    let defaults = json!({
        "replicas": 2, "port": "http", "strategy": {"blueGreen": {}},
        "template": {"spec": {"containers": [{"name": "app", "ports": [{"name": "http", "containerPort": 8080}]}]}},
    });
    let template = json!({"metadata": {"name": "service", "namespace": "catalogue"}, "spec": {"app": defaults}});
    fake.templates.push(serde_json::from_value(template).unwrap());
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("values.yaml");
    std::fs::write(&path, values).unwrap();
    let template = Some("catalogue/service".to_owned());
    (fake, FromCatalogue { name: "cart".to_owned(), template, values: Some(path) }, directory)
}

#[tokio::test]
async fn an_app_of_the_catalogue_is_shown_and_applied_only_with_a_word() {
    let values = "replicas: 5\ntemplate:\n  spec:\n    containers:\n      - { name: app, image: 'cart:1' }\n";
    let (fake, from, _files) = with_catalogue(values);
    let (done, printed) = asked(&fake, Request::Render(from.clone())).await;
    done.unwrap();
    let printed: Value = serde_saphyr::from_str(&printed).unwrap();
    assert_eq!((&printed["kind"], &printed["spec"]["replicas"]), (&json!("App"), &json!(5)));
    let container = &printed["spec"]["template"]["spec"]["containers"][0];
    assert_eq!((&container["image"], &container["ports"][0]["containerPort"]), (&json!("cart:1"), &json!(8080)));
    let (done, said) = asked(&fake, Request::Apply { from: from.clone(), agreed: false }).await;
    done.unwrap();
    assert!(said.contains("+  replicas: 5") && said.contains("--yes"), "{said}");
    assert!(fake.applied.lock().unwrap().is_empty());
    let (done, said) = asked(&fake, Request::Apply { from, agreed: true }).await;
    done.unwrap();
    assert!(said.contains("applied App shop/cart"), "{said}");
    assert_eq!(*fake.applied.lock().unwrap(), [printed]);
}

#[tokio::test]
async fn what_makes_no_app_says_what_is_missing() {
    let (fake, from, _files) = with_catalogue("port: null\n");
    assert!(refused(&fake, Request::Render(from.clone())).await.contains("missing field `port`"));
    let none = FromCatalogue { template: Some("other".to_owned()), ..from.clone() };
    assert!(refused(&fake, Request::Render(none)).await.contains("namespace shop has no AppTemplate other"));
    let nothing = FromCatalogue { values: Some("/nonexistent".into()), ..from };
    assert!(refused(&fake, Request::Render(nothing)).await.contains("/nonexistent"));
    let (fake, from, _files) = with_catalogue("- a list\n");
    assert!(refused(&fake, Request::Render(from)).await.contains("holds no fields"));
}
