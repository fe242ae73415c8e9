//! Apps made of the catalogue, on the real API server.

use std::process::Output;

use serde_json::{Value, json};

use crate::bed::WorkDir;
use crate::support::{Stage, path};

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn an_app_is_made_of_defaults_and_values_only_after_the_merge_was_shown() {
    let stage = Stage::new();
    let client = stage.cluster.client();
    let (namespace, files) = (&stage.namespace, WorkDir::new("values"));
    // The one that is installed as an example.
    let text =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/kubernetes/catalogue.yaml")).unwrap();
    let mut template: Value = serde_saphyr::from_str(&text).unwrap();
    template["metadata"]["namespace"] = json!(namespace);
    client.create(&template);
    let values = |text: &str| files.write("values.yaml", text).to_str().unwrap().to_owned();
    let file = values(
        "replicas: 4\ntemplate: { spec: { containers: [ { name: app, image: 'cart:1', env: [ { name: B, value: '2' } ] } ] } }\n",
    );
    let from = ["cart", "--template", "service", "--values", &file];
    let run = |words: &[&str]| stage.run(&[words, &from].concat());
    let shown = run(&["app", "render"]);
    assert!(shown.status.success() && said(&shown).contains("replicas: 4"), "{shown:?}");
    let shown = run(&["app", "apply"]);
    assert!(shown.status.success() && said(&shown).contains("nothing was applied"), "{shown:?}");
    // As the API server would have it: with its defaults.
    assert!(said(&shown).contains("+  replicas: 4") && said(&shown).contains("drainSeconds: 10"), "{shown:?}");
    let app = path(namespace, "apps", "cart");
    assert!(client.try_get(&app).unwrap().is_none());
    let applied = run(&["app", "apply", "--yes"]);
    assert!(applied.status.success() && said(&applied).contains("applied App"), "{applied:?}");
    let made = client.get(&app);
    assert_eq!(made["metadata"]["annotations"]["tidegate.dev/template"], format!("{namespace}/service"));
    let container = &made["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(container["env"], json!([{"name": "PORT", "value": "8080"}, {"name": "B", "value": "2"}]));
    assert_eq!((&container["image"], &made["spec"]["replicas"]), (&json!("cart:1"), &json!(4)));
    let again = run(&["app", "apply", "--yes"]);
    assert!(said(&again).contains("is like this already"), "{again:?}");
    // A changed template changes no App until it is applied again; what goes from the values goes from the App.
    client.patch(&path(namespace, "apptemplates", "service"), &json!({"spec": {"app": {"minReadySeconds": 7}}}));
    assert_eq!(client.get(&app)["spec"]["minReadySeconds"], 5);
    values("replicas: 3\n");
    let shown = run(&["app", "apply", "--yes"]);
    assert!(said(&shown).contains("-  replicas: 4") && said(&shown).contains("+  replicas: 3"), "{shown:?}");
    assert_eq!(client.get(&app)["spec"]["minReadySeconds"], 7);
    assert_eq!(client.get(&app)["spec"]["template"]["spec"]["containers"][0].get("image"), None);
    values("replica: 3\n");
    let slip = run(&["app", "apply", "--yes"]);
    assert!(!slip.status.success() && said(&slip).contains("replica"), "{slip:?}");
}
