//! Templates: Jinja2's language by minijinja, in which a name that means nothing is an error with its line.

use std::path::{Path, PathBuf};

use minijinja::{Environment, Error, ErrorKind, State, UndefinedBehavior, Value};

use super::TemplateConfig;
use super::context::{BY_ID, NAMES};

/// What is wrong with a template: `FILE:LINE: what`.
#[derive(Debug, thiserror::Error)]
#[error("{}{}: {what}", file.display(), line.map(|line| format!(":{line}")).unwrap_or_default())]
pub struct TemplateError {
    /// The template's file.
    pub file: PathBuf,
    /// The line, where it is known.
    pub line: Option<usize>,
    /// What is wrong, and the remedy where there is one.
    pub what: String,
}

/// A template that was read.
pub(super) struct Compiled {
    file: PathBuf,
    environment: Environment<'static>,
    wants_hosts: bool,
    has_key: bool,
}

const TEXT: &str = "template";
const KEY: &str = "reload_key";

// === impl Compiled ===

impl Compiled {
    /// Reads and parses a template, and its reload key.
    ///
    /// # Errors
    /// It cannot be read or parsed, or it has a name that nobody gives.
    pub(super) fn read(config: &TemplateConfig) -> Result<Self, TemplateError> {
        let file = config.template.clone();
        let failed = |what: String| TemplateError { file: file.clone(), line: None, what };
        let text = std::fs::read_to_string(&file).map_err(|error| failed(format!("cannot be read: {error}")))?;
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_keep_trailing_newline(true);
        environment.set_trim_blocks(true);
        environment.set_lstrip_blocks(true);
        environment.add_function("pool", pool);
        environment.add_filter("name", |id: String| crate::pull::name(&id));
        let mut wants_hosts = false;
        for (part, text) in [(TEXT, Some(text)), (KEY, config.reload_key.clone())] {
            let Some(text) = text else { continue };
            environment.add_template_owned(part, text.clone()).map_err(|error| said(&file, part, &error))?;
            let template = environment.get_template(part).map_err(|error| said(&file, part, &error))?;
            let mut unknown: Vec<String> = template.undeclared_variables(false).into_iter().collect();
            unknown.sort();
            wants_hosts |= unknown.iter().any(|name| name == "hosts");
            if let Some(name) = unknown.iter().find(|name| !is_known(&environment, name)) {
                let line = text.lines().position(|line| has_word(line, name)).map(|at| at + 1);
                let what = format!("{}unknown name {name}: known are {}", of(part), NAMES.join(", "));
                return Err(TemplateError { file, line: line.filter(|_| part == TEXT), what });
            }
        }
        Ok(Self { file, environment, wants_hosts, has_key: config.reload_key.is_some() })
    }

    pub(super) fn wants_hosts(&self) -> bool {
        self.wants_hosts
    }

    /// The file's new content.
    ///
    /// # Errors
    /// Something in the template does not fit what is there.
    pub(super) fn render(&self, context: &Value) -> Result<String, TemplateError> {
        self.part(TEXT, context)
    }

    /// What the reload key is; `None` without one.
    pub(super) fn key(&self, context: &Value) -> Result<Option<String>, TemplateError> {
        if self.has_key { self.part(KEY, context).map(Some) } else { Ok(None) }
    }

    fn part(&self, part: &str, context: &Value) -> Result<String, TemplateError> {
        let template = self.environment.get_template(part).map_err(|error| said(&self.file, part, &error))?;
        template.render(context).map_err(|error| said(&self.file, part, &error))
    }
}

fn is_known(environment: &Environment<'_>, name: &str) -> bool {
    NAMES.contains(&name) || environment.globals().any(|(global, _)| global == name)
}

fn has_word(line: &str, name: &str) -> bool {
    line.split(|it: char| !it.is_alphanumeric() && it != '_').any(|word| word == name)
}

fn of(part: &str) -> String {
    if part == TEXT { String::new() } else { format!("{part}: ") }
}

fn said(file: &Path, part: &str, error: &Error) -> TemplateError {
    let detail = error.detail().map(|detail| format!(": {detail}")).unwrap_or_default();
    let what = format!("{}{}{detail}", of(part), error.kind());
    TemplateError { file: file.to_owned(), line: error.line().filter(|_| part == TEXT), what }
}

/// `pool("ID")`.
fn pool(state: &State<'_, '_>, id: &str) -> Result<Value, Error> {
    let found = state.lookup(BY_ID).and_then(|pools| pools.get_item(&Value::from(id)).ok());
    found.filter(|pool| !pool.is_undefined()).ok_or_else(|| {
        Error::new(ErrorKind::InvalidOperation, format!("no pool {id:?} is known: compare with `tidegate pools`"))
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::pull::view::View;
    use crate::render::context;

    fn compile(text: &str, key: Option<&str>) -> Result<Compiled, TemplateError> {
        let directory = tempfile::tempdir().unwrap();
        let template = directory.path().join("t.j2");
        std::fs::write(&template, text).unwrap();
        Compiled::read(&TemplateConfig {
            template,
            output: PathBuf::new(),
            check: Vec::new(),
            reload: Vec::new(),
            reload_key: key.map(str::to_owned),
            mode: 0o644,
            command_timeout: Duration::from_secs(1),
        })
    }

    fn view() -> Value {
        let pool = r#"{"id":"east/shop/web/http","etag":"\"x\"","endpoints":[
            {"address":"10.0.0.1","port":80,"weight":100,"state":"ready","zone":"a"},
            {"address":"fd00::1","port":80,"weight":50,"state":"ready"},
            {"address":"10.0.0.3","port":80,"weight":100,"state":"draining"}]}"#;
        let pool: crate::pull::wire::Pool = serde_json::from_str(pool).unwrap();
        let host = r#"[{"host":"shop.example","path_prefix":"/","pool":"east/shop/web/http","namespace":"shop"}]"#;
        let hosts: Vec<crate::pull::wire::Host> = serde_json::from_str(host).unwrap();
        let pools = [(pool.id.clone(), std::sync::Arc::new(pool))].into();
        context::of(&View { pools, hosts: Some(hosts.into()), ..View::default() })
    }

    #[test]
    fn a_template_has_everything_of_pools_and_hosts() {
        let text = "{% for pool in pools %}\nupstream {{ pool.name }} {\n{% for e in pool.endpoints %}\n  {{ e.socket }} {{ e.weight256 }} {{ e.state }} [{{ e.zone }}]\n{% endfor %}\n}\n{% endfor %}\n{% for h in hosts %}\n{{ h.host }}{{ h.path_prefix }} {{ h.pool_name }} {{ h.known }}\n{% endfor %}\n{{ pool('east/shop/web/http').ready | length }} {{ 'a/b:c' | name }}\n";
        let compiled = compile(text, Some("{{ pools | map(attribute='id') | join(' ') }}")).unwrap();
        assert!(compiled.wants_hosts());
        assert_eq!(
            compiled.render(&view()).unwrap(),
            "upstream east_shop_web_http {\n  10.0.0.1:80 256 ready [a]\n  [fd00::1]:80 128 ready []\n  10.0.0.3:80 0 draining []\n}\nshop.example/ east_shop_web_http True\n2 a_b_c\n"
        );
        assert_eq!(compiled.key(&view()).unwrap().as_deref(), Some("east/shop/web/http"));
        assert!(!compile("{{ pools | length }}", None).unwrap().wants_hosts());
    }

    #[test]
    fn what_a_template_gets_wrong_is_said_with_its_line() {
        for (text, key, said) in [
            ("a\n{{ poools }}\n", None, "t.j2:2: unknown name poools"),
            ("a\n{% for p in pools %}\n{{ p.nmae }}\n{% endfor %}", None, "t.j2:3: undefined value"),
            ("a\n{{ pool('nope').name }}", None, "t.j2:2: invalid operation: no pool \"nope\""),
            ("a\n\n{% for %}", None, "t.j2:3: syntax error"),
            ("a", Some("{{ hostss }}"), "t.j2: reload_key: unknown name hostss"),
        ] {
            let error = match compile(text, key) {
                Err(error) => error.to_string(),
                Ok(compiled) => compiled.render(&view()).unwrap_err().to_string(),
            };
            assert!(error.contains(said), "{text:?}: {error}");
        }
    }
}
