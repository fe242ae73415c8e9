//! `tls` of `[[gateway.listener]]` and of `[[gateway.pool]]`.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use toml::{Table, Value};

use super::section::Section;
use crate::gateway::tls::{Identity, ServerTls};
use crate::net::tls::{self, Clients, TlsError};
use crate::upstream::config::UpstreamTls;

/// Of a listener: the table and the files that it names. With a cluster, whose certificates are shown as well, it need name none.
pub(super) fn read(section: &mut Section<'_>, http2: bool, has_cluster: bool) -> Option<ServerTls> {
    let mut table = section.inline("tls")?;
    let mut shown = Table::new();
    let default = read_optional_pair(&mut table, !has_cluster, &mut shown);
    let mut further = Vec::new();
    let mut shown_further = Vec::new();
    for mut pair in table.inline_tables("certificates") {
        let mut shown = Table::new();
        further.push(read_pair(&mut pair, &mut shown));
        shown_further.push(Value::Table(shown));
        pair.finish();
    }
    if !shown_further.is_empty() {
        shown.insert("certificates".to_owned(), Value::Array(shown_further));
    }
    let client_ca = read_file(&mut table, "client_ca", false, &mut shown);
    let clients = match (table.text("client_auth"), &client_ca) {
        (Some(_), _) if !table.has("client_ca") => {
            table.problem("client_auth", "has no effect without client_ca: name the authority's file, or remove this");
            Clients::Unasked
        }
        (_, None) => Clients::Unasked,
        (None | Some("required"), _) => Clients::Required,
        (Some("optional"), _) => Clients::Optional,
        (Some(text), _) => {
            table.problem("client_auth", format!("{text:?} is unknown: use \"required\", \"optional\""));
            Clients::Required
        }
    };
    match clients {
        Clients::Unasked => None,
        Clients::Required => shown.insert("client_auth".to_owned(), Value::from("required")),
        Clients::Optional => shown.insert("client_auth".to_owned(), Value::from("optional")),
    };
    let further: Option<Vec<_>> = further.into_iter().collect();
    let made = default.zip(further).and_then(|(default, further)| {
        let default = default.as_ref().map(identity);
        let further: Vec<Identity<'_>> = further.iter().map(identity).collect();
        let made = ServerTls::new(default, &further, client_ca.as_deref().unwrap_or_default(), clients, http2);
        made.map_err(|(place, error)| {
            let key = match (&error, place) {
                (TlsError::ClientCa(_), _) => "client_ca",
                (TlsError::Certificate(_), 0) => "certificate",
                (TlsError::Key(_), 0) => "key",
                _ => "certificates",
            };
            table.problem(key, error.to_string());
        })
        .ok()
    });
    table.finish();
    section.show("tls", shown);
    made
}

/// Of a pool: whom it trusts, and what is shown to it.
pub(super) fn read_upstream(section: &mut Section<'_>) -> Option<Arc<UpstreamTls>> {
    let mut table = section.inline("tls")?;
    let mut shown = Table::new();
    let ca = read_file(&mut table, "ca", true, &mut shown);
    let identity = read_optional_pair(&mut table, false, &mut shown);
    let server_name = table.text("server_name");
    shown.extend(server_name.map(|name| ("server_name".to_owned(), Value::from(name))));
    let made = ca.zip(identity).and_then(|(ca, pair)| {
        let shown_identity = pair.as_ref().map(|(chain, key)| (chain.as_slice(), key.as_slice()));
        // Connections are shared by who trusts and shows the same.
        let mut hasher = DefaultHasher::new();
        (&ca, &pair).hash(&mut hasher);
        let config = tls::client(&ca, shown_identity).map_err(|error| match &error {
            TlsError::ClientCa(_) => table.problem("ca", error.to_string()),
            TlsError::Certificate(_) => table.problem("certificate", error.to_string()),
            TlsError::Key(_) => table.problem("key", error.to_string()),
        });
        UpstreamTls::new(&config.ok()?, server_name, &format!("{:016x}", hasher.finish()))
            .map_err(|error| table.problem("server_name", error.to_string()))
            .ok()
    });
    table.finish();
    section.show("tls", shown);
    made.map(Arc::new)
}

fn identity((chain, key): &(Vec<u8>, Vec<u8>)) -> Identity<'_> {
    Identity { chain, key }
}

/// A pair that may be absent; nothing where it does not serve.
fn read_optional_pair(
    table: &mut Section<'_>,
    required: bool,
    shown: &mut Table,
) -> Option<Option<(Vec<u8>, Vec<u8>)>> {
    if required || table.has("certificate") || table.has("key") {
        return read_pair(table, shown).map(Some);
    }
    // Known, though absent.
    let _ = (table.text("certificate"), table.text("key"));
    Some(None)
}

fn read_pair(table: &mut Section<'_>, shown: &mut Table) -> Option<(Vec<u8>, Vec<u8>)> {
    let certificate = read_file(table, "certificate", true, shown);
    certificate.zip(read_file(table, "key", true, shown))
}

fn read_file(table: &mut Section<'_>, key: &'static str, required: bool, shown: &mut Table) -> Option<Vec<u8>> {
    let Some(path) = table.text(key) else {
        if required && !table.has(key) {
            table.problem(key, "missing: name a file in PEM");
        }
        return None;
    };
    shown.insert(key.to_owned(), Value::from(path));
    table.file(key, path).map_err(|problem| table.problem(key, problem)).ok()
}
