//! `enrich = { … }` of a route.

use toml::Value;

use super::section::Section;
use crate::record::config::{EnrichAs, EnrichConfig};

pub(super) fn read(route: &mut Section<'_>) -> Option<EnrichConfig> {
    let mut table = route.inline("enrich")?;
    let forms = [("fields", EnrichAs::Fields), ("gelf", EnrichAs::Gelf)];
    let config = EnrichConfig {
        form: table.choice("as", ("headers", EnrichAs::Headers), forms, &[]),
        id: table.flag("id", false),
        received: table.flag("received", false),
        key: table.flag("key", false),
        client: table.flag("client", false),
        user: table.flag("user", false),
        node: table.flag("node", false),
        pod: table.flag("pod", false),
    };
    table.finish();
    let EnrichConfig { form, id, received, key, client, user, node, pod } = config;
    let parts = [
        ("id", id),
        ("received", received),
        ("key", key),
        ("client", client),
        ("user", user),
        ("node", node),
        ("pod", pod),
    ];
    if form != EnrichAs::Gelf && parts.iter().all(|(_, wanted)| !wanted) {
        route.problem("enrich", "adds nothing: name what it should add, as { id = true, client = true }, or remove it");
    }
    let word = match form {
        EnrichAs::Headers => "headers",
        EnrichAs::Fields => "fields",
        EnrichAs::Gelf => "gelf",
    };
    let mut shown = toml::Table::new();
    shown.insert("as".to_owned(), Value::from(word));
    for (name, wanted) in parts {
        shown.insert(name.to_owned(), Value::from(wanted));
    }
    route.show("enrich", shown);
    Some(config)
}
