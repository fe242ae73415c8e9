//! The pods of a Release, made of an App when the Release is: the App's template, the image, what an environment lays over it,
//! and the hooks beside it. All of it stands in the Release's template, so that its revision is of all that its pods are
//! made from, and that a Release goes back to what exactly ran.

mod hooks;

use serde_json::Value;

pub use self::hooks::SIDECAR;
use super::resource::app::AppSpec;
use super::resource::revision::with_image;

/// What of an App is meant.
#[derive(Clone, Copy, Debug, Default)]
pub struct Choice<'a> {
    /// The image.
    pub image: &'a str,
    /// The container that gets it; else the first.
    pub container: Option<&'a str>,
    /// The environment; else the one that the App is in.
    pub environment: Option<&'a str>,
}

/// The template of a Release, and the environment that it was made in.
///
/// # Errors
/// The App has no such container or environment, or its template does not go with its hooks: in words that name the field.
pub fn of_release(app: &AppSpec, choice: Choice<'_>) -> Result<(Value, Option<String>), String> {
    let mut template = with_image(&app.template, choice.container, choice.image)?;
    let name = choice.environment.or(app.environment.as_deref());
    if let Some(name) = name {
        let environment = app.environments.iter().find(|it| it.name == name).ok_or_else(|| {
            let there: Vec<&str> = app.environments.iter().map(|it| it.name.as_str()).collect();
            format!("it has no environment {name:?}; spec.environments has {there:?}")
        })?;
        template = environment.over(&template).map_err(|why| format!("environment {name}: {why}"))?;
    }
    if let Some(asked) = &app.hooks {
        hooks::beside(&mut template, asked, &app.port).map_err(|why| format!("spec.hooks: {why}"))?;
    }
    Ok((template, name.map(str::to_owned)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::control::children::tests::app_and_release;
    use crate::control::resource::revision::has_image;

    fn app(more: Value) -> AppSpec {
        let mut spec = serde_json::to_value(app_and_release().0.spec).unwrap();
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value(spec).unwrap()
    }

    fn environments() -> Value {
        json!({"environment": "test", "environments": [
            {"name": "test", "args": ["--debug"]}, {"name": "live", "args": ["--fast"]},
        ]})
    }

    #[test]
    fn an_app_is_in_its_environment_unless_another_is_named_and_the_image_is_what_was_asked_for_in_each() {
        let app = app(environments());
        let image = "web@sha256:0c";
        let choice = Choice { image, ..Choice::default() };
        let (test, name) = of_release(&app, choice).unwrap();
        assert_eq!((&test["spec"]["containers"][0]["args"], name.as_deref()), (&json!(["--debug"]), Some("test")));
        let (live, name) = of_release(&app, Choice { environment: Some("live"), ..choice }).unwrap();
        assert_eq!((&live["spec"]["containers"][0]["args"], name.as_deref()), (&json!(["--fast"]), Some("live")));
        assert!(has_image(&test, image) && has_image(&live, image));
        let none = of_release(&app, Choice { environment: Some("stage"), ..choice }).unwrap_err();
        assert!(none.contains("\"stage\"") && none.contains("\"live\""), "{none}");
    }

    #[test]
    fn without_environments_and_hooks_only_the_image_is_another() {
        let app = app(json!({}));
        let (made, environment) = of_release(&app, Choice { image: "web:1", ..Choice::default() }).unwrap();
        assert_eq!((made, environment), (app.template, None));
    }

    #[test]
    fn what_does_not_go_together_names_the_field() {
        let hooks = json!({"hooks": {"image": "t", "port": 8080, "beforeStart": {"command": ["x"]}}});
        let refused = of_release(&app(hooks), Choice { image: "web:1", ..Choice::default() }).unwrap_err();
        assert!(refused.starts_with("spec.hooks: "), "{refused}");
    }
}
