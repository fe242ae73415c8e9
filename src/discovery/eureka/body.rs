//! Whole answers of Eureka, made of the pools' shared instances.

use std::sync::Arc;

use axum::http::{HeaderMap, header};

use crate::discovery::formats::Format;
use crate::discovery::formats::eureka::instance::{Action, Instance, element};
use crate::discovery::formats::eureka::{Apps, hash_code, instances};
use crate::endpoints::pool::Pool;

/// What a client reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    Json,
    Xml,
}

// === impl Encoding ===

impl Encoding {
    /// JSON where the client names it, else XML.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
        if accept.contains("json") { Self::Json } else { Self::Xml }
    }

    pub(super) fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Xml => "application/xml",
        }
    }
}

/// All applications; those without instances are not there, as in Netflix's server.
pub(super) fn whole(apps: &Apps, encoding: Encoding) -> String {
    let bodies = apps.iter().map(|(app, pools)| (app.as_str(), shared(app, pools, encoding)));
    applications(bodies.filter(|(_, instances)| !instances.is_empty()), &hash_code(apps), encoding)
}

/// What a client that has `before` must do to have `now`: instances that are new or different, and those that are gone.
pub(super) fn delta(before: &Apps, now: &Apps, hash_code: &str, encoding: Encoding) -> String {
    let mut names: Vec<&String> = before.keys().chain(now.keys()).collect();
    names.sort();
    names.dedup();
    let changed = names.into_iter().filter_map(|app| {
        let of = |apps: &Apps| apps.get(app).cloned().unwrap_or_default();
        let (had, has) = (of(before), of(now));
        let same = had.len() == has.len() && had.iter().zip(&has).all(|(one, other)| is_same(one, other));
        if same {
            return None;
        }
        let has = instances(app, &has);
        let gone = instances(app, &had).into_iter().filter(|(id, _)| !has.contains_key(id));
        let gone = gone.map(|(_, instance)| encode(&instance, Action::Deleted, encoding));
        let there = has.values().map(|instance| encode(instance, Action::Added, encoding));
        Some((app.as_str(), there.chain(gone).collect::<Vec<_>>().join(separator(encoding))))
    });
    applications(changed.filter(|(_, instances)| !instances.is_empty()), hash_code, encoding)
}

/// Pools are replaced whenever their content changes.
fn is_same(one: &Arc<Pool>, other: &Arc<Pool>) -> bool {
    Arc::ptr_eq(one, other) || (one.id == other.id && Arc::ptr_eq(&one.endpoints, &other.endpoints))
}

/// One application.
pub(super) fn application(app: &str, pools: &[Arc<Pool>], encoding: Encoding) -> String {
    let application = one_application(app, &shared(app, pools, encoding), encoding);
    match encoding {
        Encoding::Json => format!("{{\"application\":{application}}}"),
        Encoding::Xml => application,
    }
}

/// One instance.
pub(super) fn instance(instance: &Instance, encoding: Encoding) -> String {
    let text = encode(instance, Action::Added, encoding);
    match encoding {
        Encoding::Json => format!("{{\"instance\":{text}}}"),
        Encoding::Xml => text,
    }
}

fn encode(instance: &Instance, action: Action, encoding: Encoding) -> String {
    match encoding {
        Encoding::Json => instance.json(action),
        Encoding::Xml => instance.xml(action),
    }
}

fn separator(encoding: Encoding) -> &'static str {
    match encoding {
        Encoding::Json => ",",
        Encoding::Xml => "",
    }
}

/// An application's instances: the pool's shared body where it has one pool.
fn shared(app: &str, pools: &[Arc<Pool>], encoding: Encoding) -> String {
    let format = match encoding {
        Encoding::Json => Format::EurekaJson,
        Encoding::Xml => Format::EurekaXml,
    };
    match pools {
        [alone] => String::from_utf8_lossy(&format.render(alone).body).into_owned(),
        several => {
            let instances = instances(app, several);
            let encoded: Vec<_> = instances.values().map(|it| encode(it, Action::Added, encoding)).collect();
            encoded.join(separator(encoding))
        }
    }
}

fn one_application(app: &str, instances: &str, encoding: Encoding) -> String {
    match encoding {
        // An application's name has no character that JSON would escape.
        Encoding::Json => format!("{{\"name\":\"{app}\",\"instance\":[{instances}]}}"),
        Encoding::Xml => {
            let mut text = String::from("<application>");
            element(&mut text, "name", app);
            text.push_str(instances);
            text.push_str("</application>");
            text
        }
    }
}

fn applications<'a>(apps: impl Iterator<Item = (&'a str, String)>, hash_code: &str, encoding: Encoding) -> String {
    let apps: Vec<_> = apps.map(|(app, instances)| one_application(app, &instances, encoding)).collect();
    let apps = apps.join(separator(encoding));
    match encoding {
        Encoding::Json => format!(
            "{{\"applications\":{{\"versions__delta\":\"1\",\"apps__hashcode\":\"{hash_code}\",\"application\":[{apps}]}}}}"
        ),
        Encoding::Xml => format!(
            "<applications><versions__delta>1</versions__delta><apps__hashcode>{hash_code}</apps__hashcode>{apps}</applications>"
        ),
    }
}
