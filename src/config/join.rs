//! `join_lines = { … }` of a route.

use std::time::Duration;

use toml::Value;

use super::section::Section;
use crate::record::config::{JoinConfig, RouteConfig, Validate};
use crate::record::join::start_of_record;

const START: &str = r"^\S";

pub(super) fn read(route: &mut Section<'_>) -> Option<JoinConfig> {
    let mut table = route.inline("join_lines")?;
    let start = table.text("start").unwrap_or(START);
    if let Err(error) = start_of_record(start) {
        // The library points at the place in lines of its own; the last one says what it is.
        let text = error.to_string();
        let fault = text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
        table.problem("start", format!("{start:?} is no regular expression: {fault}"));
    }
    let max_lines = table.number("max_lines", 2..=100_000, 500);
    let max_ms = table.number("max_ms", 1..=60_000, 500);
    table.finish();
    let mut shown = toml::Table::new();
    shown.insert("start".to_owned(), Value::from(start));
    shown.insert("max_lines".to_owned(), Value::from(i64::try_from(max_lines).unwrap_or(i64::MAX)));
    shown.insert("max_ms".to_owned(), Value::from(i64::try_from(max_ms).unwrap_or(i64::MAX)));
    route.show("join_lines", shown);
    let max_lines = usize::try_from(max_lines).unwrap_or(usize::MAX);
    Some(JoinConfig { start: start.to_owned(), max_lines, max_wait: Duration::from_millis(max_ms) })
}

/// What lines cannot be joined with.
pub(super) fn check(section: &mut Section<'_>, route: &RouteConfig) {
    let Some(join) = &route.join_lines else { return };
    if route.validate == Validate::Json {
        section.problem("join_lines", "a line is no JSON text, which validate = \"json\" asks for: remove one of them");
    }
    if route.topic.contains("{json:") {
        section
            .problem("join_lines", "lines name no topic of their own: take {json:…} out of the topic, or remove this");
    }
    if join.max_wait >= route.hold {
        let fault = format!("{} is not below hold_ms", join.max_wait.as_millis());
        section.problem("join_lines", format!("max_ms {fault}, so that a last line would be refused: lower it"));
    }
}
