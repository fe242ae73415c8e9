//! Environments: what was tested is what goes on, by its digest, into another environment.

use serde_json::{Value, json};

use crate::support::{Stage, path, template};

/// The first container of the pods that a release brought.
fn container_of(stage: &Stage, app: &str, release: &str) -> Value {
    let revision = stage.wait_phase(release, "Healthy")["revision"].as_str().unwrap().to_owned();
    let deployment = format!("/apis/apps/v1/namespaces/{}/deployments/{app}-{revision}", stage.namespace);
    stage.cluster.client().get(&deployment)["spec"]["template"]["spec"]["containers"][0].clone()
}

#[test]
fn a_promotion_brings_the_same_image_with_the_variables_of_where_it_goes() {
    let stage = Stage::new();
    let _control = stage.control();
    let client = stage.cluster.client();
    let of = |name: &str, cpu: &str| {
        let resources = json!({"requests": {"cpu": cpu}});
        json!({"name": name, "args": [format!("--{name}")], "env": [{"name": "WHERE", "value": name}], "resources": resources})
    };
    let environments = json!([of("test", "100m"), of("production", "2")]);
    for (app, environment) in [("web", "test"), ("live", "production")] {
        stage.create_app(app, 1, &json!({"rolling": {}}), &template());
        let spec = json!({"environment": environment, "environments": environments});
        client.patch(&path(&stage.namespace, "apps", app), &json!({"spec": spec}));
    }
    let image = format!("web@sha256:{}", "7".repeat(64));
    for command in [
        vec!["deploy", "web", "--image", &image, "--wait"],
        vec!["promote", "web", "--to", &format!("{}/live", stage.namespace)],
        vec!["approve", "live"],
    ] {
        let done = stage.run(&command);
        assert!(done.status.success(), "{command:?}: {done:?}");
    }
    let (tested, promoted) = (container_of(&stage, "web", "web-1"), container_of(&stage, "live", "live-1"));
    assert_eq!((&tested["image"], &promoted["image"]), (&json!(image), &json!(image)));
    for (container, name, cpu) in [(&tested, "test", "100m"), (&promoted, "production", "2")] {
        assert_eq!(container["args"], json!([format!("--{name}")]));
        assert_eq!(container["env"], json!([{"name": "WHERE", "value": name}]));
        assert_eq!(container["resources"]["requests"]["cpu"], cpu);
    }
    let release = client.get(&path(&stage.namespace, "releases", "live-1"));
    assert_eq!(release["spec"]["environment"], "production");
    // The same image in another environment of one's own is another revision.
    let there = stage.run(&["deploy", "web", "--image", &image, "--environment", "production", "--wait"]);
    assert!(there.status.success(), "{there:?}");
    assert_eq!(container_of(&stage, "web", "web-2")["args"], json!(["--production"]));
}

#[test]
fn an_app_is_in_one_of_its_environments_each_of_which_has_a_name_of_its_own() {
    let stage = Stage::new();
    let client = stage.cluster.client();
    stage.create_app("web", 1, &json!({"rolling": {}}), &template());
    let app = path(&stage.namespace, "apps", "web");
    let refused = |spec: Value| client.try_patch(&app, &json!({"spec": spec})).unwrap_err().0;
    assert!(refused(json!({"environment": "test"})).contains("environment names one of environments"));
    let other = json!({"environment": "test", "environments": [{"name": "live"}]});
    assert!(refused(other).contains("environment names one of environments"));
    let twice = json!({"environments": [{"name": "test"}, {"name": "test"}]});
    assert!(refused(twice).contains("Duplicate value"));
    let unnamed = json!({"environments": [{"name": "test", "env": [{"value": "1"}]}]});
    assert!(refused(unnamed).contains("name"));
}
