//! `tls` of `[log]` and of `[discovery]`.

use toml::Value;

use super::section::Section;
use crate::net::tls::{Clients, TlsConfig, TlsError};

/// Reads the table and the files that it names. `Some(None)`: TLS is asked for, and something is wrong with it.
pub(super) fn read(section: &mut Section<'_>) -> Option<Option<TlsConfig>> {
    let mut table = section.inline("tls")?;
    let mut shown = toml::Table::new();
    let certificate = read_file(&mut table, "certificate", true, &mut shown);
    let key = read_file(&mut table, "key", true, &mut shown);
    let client_ca = read_file(&mut table, "client_ca", false, &mut shown);
    let clients = match table.text("client_auth") {
        Some(_) if !table.has("client_ca") => {
            table.problem("client_auth", "has no effect without client_ca: name the authority's file, or remove this");
            Clients::Unasked
        }
        _ if client_ca.is_none() => Clients::Unasked,
        None | Some("required") => Clients::Required,
        Some("optional") => Clients::Optional,
        Some(text) => {
            table.problem("client_auth", format!("{text:?} is unknown: use \"required\", \"optional\""));
            Clients::Required
        }
    };
    match clients {
        Clients::Unasked => None,
        Clients::Required => shown.insert("client_auth".to_owned(), Value::from("required")),
        Clients::Optional => shown.insert("client_auth".to_owned(), Value::from("optional")),
    };
    let config = certificate.zip(key).and_then(|(certificate, key)| {
        let built = TlsConfig::new(&certificate, &key, &client_ca.unwrap_or_default(), clients);
        built.map_err(|error| table.problem(key_of(&error), error.to_string())).ok()
    });
    table.finish();
    section.show("tls", shown);
    Some(config)
}

fn read_file(table: &mut Section<'_>, key: &'static str, required: bool, shown: &mut toml::Table) -> Option<Vec<u8>> {
    let Some(path) = table.text(key) else {
        if required && !table.has(key) {
            table.problem(key, "missing: name a file in PEM");
        }
        return None;
    };
    shown.insert(key.to_owned(), Value::from(path));
    table.file(key, path).map_err(|problem| table.problem(key, problem)).ok()
}

fn key_of(error: &TlsError) -> &'static str {
    match error {
        TlsError::Certificate(_) => "certificate",
        TlsError::Key(_) => "key",
        TlsError::ClientCa(_) => "client_ca",
    }
}
