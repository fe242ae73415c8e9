//! Apps made of the catalogue: an AppTemplate's defaults with people's values over them, shown before anything is applied.

use std::path::PathBuf;

use kube::ResourceExt;
use serde::Serialize;
use serde_json::{Value, json};
use similar::TextDiff;

use super::Say;
use super::client::Client;
use super::error::DeployError;
use crate::control::resource::GROUP_VERSION;
use crate::control::resource::app::{App, AppSpec};
use crate::control::resource::catalogue::merged;

/// The annotation that says which AppTemplate an App was made of.
const MADE_OF: &str = "tidegate.dev/template";

/// An App to be.
#[derive(Clone, Debug, Default)]
pub struct FromCatalogue {
    /// Its name.
    pub name: String,
    /// The AppTemplate, as `NAME` beside the App or `NAMESPACE/NAME`; absent: the values are all.
    pub template: Option<String>,
    /// A file of YAML or JSON with fields of an App's spec; absent: the defaults are all.
    pub values: Option<PathBuf>,
}

/// The App, as it would be applied, in YAML.
pub(super) async fn render(client: &impl Client, namespace: &str, from: &FromCatalogue) -> Result<String, DeployError> {
    yaml(&made(client, namespace, from).await?)
}

/// Shows what would be another than it is, and with a person's word makes it so.
pub(super) async fn apply(
    client: &impl Client,
    namespace: &str,
    from: &FromCatalogue,
    agreed: bool,
    say: Say<'_>,
) -> Result<(), DeployError> {
    let wanted = made(client, namespace, from).await?;
    let before = client.app(namespace, &from.name).await?;
    // As the API server would take it: what it refuses is refused here, and what it adds is shown.
    let after = client.apply(namespace, &wanted, true).await?;
    let text = |app: Option<&App>| app.map_or(Ok(String::new()), |it| yaml(&shown(it)));
    let (is, will) = (text(before.as_ref())?, text(Some(&after))?);
    let app = format!("{namespace}/{}", from.name);
    if is == will {
        say(&format!("App {app} is like this already\n"))?;
        return Ok(());
    }
    let diff = TextDiff::from_lines(is.as_str(), will.as_str());
    let names = (format!("App {app} as it is"), format!("App {app} as it will be"));
    say(&diff.unified_diff().header(&names.0, &names.1).to_string())?;
    if !agreed {
        say("nothing was applied: --yes applies it\n")?;
        return Ok(());
    }
    client.apply(namespace, &wanted, false).await?;
    say(&format!("applied App {app}: tidegate deploy {} --image IMAGE brings it about\n", from.name))?;
    Ok(())
}

/// The App as it is applied.
async fn made(client: &impl Client, namespace: &str, from: &FromCatalogue) -> Result<Value, DeployError> {
    let values = match &from.values {
        None => json!({}),
        Some(path) => {
            let told = |error: &dyn std::fmt::Display| DeployError::Useless(format!("{}: {error}", path.display()));
            let text = std::fs::read_to_string(path).map_err(|error| told(&error))?;
            let values: Value = serde_saphyr::from_str(&text).map_err(|error| told(&error))?;
            if !values.is_object() {
                return Err(told(&"holds no fields: write those of an App's spec, as `replicas: 3`"));
            }
            values
        }
    };
    let (spec, annotations) = match &from.template {
        None => (values, json!({})),
        Some(name) => {
            let (at, name) = name.split_once('/').unwrap_or((namespace, name));
            let found = client.template(at, name).await?;
            let found =
                found.ok_or_else(|| DeployError::Unknown(format!("namespace {at} has no AppTemplate {name}")))?;
            (merged(&found.spec.app, &values), json!({MADE_OF: format!("{at}/{name}")}))
        }
    };
    if let Err(error) = serde_json::from_value::<AppSpec>(spec.clone()) {
        return Err(DeployError::Useless(format!(
            "App {namespace}/{}: what is merged is no spec of an App: {error}",
            from.name
        )));
    }
    let metadata = json!({"name": from.name, "namespace": namespace, "annotations": annotations});
    Ok(json!({"apiVersion": GROUP_VERSION, "kind": "App", "metadata": metadata, "spec": spec}))
}

/// What of an App people decide about.
fn shown(app: &App) -> Value {
    let made_of = app.annotations().get(MADE_OF);
    json!({"madeOf": made_of, "spec": app.spec})
}

fn yaml(value: &impl Serialize) -> Result<String, DeployError> {
    Ok(serde_saphyr::to_string(value).map_err(std::io::Error::other)?)
}
