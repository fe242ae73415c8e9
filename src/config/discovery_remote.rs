//! `[[discovery.source]]` of the kinds `hub` and `eureka`: what is asked over HTTP.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use toml::{Table, Value};

use super::discovery::read_shown;
use super::section::Section;
use crate::endpoints::eureka::EurekaConfig;
use crate::endpoints::hub::{HubAddress, HubConfig, Lookup, ServiceAddress};
use crate::net::fetch::{Credentials, Fetcher};

const DEFAULT_PORT: u64 = 8500;
/// Servers of one source.
const MAX_URLS: usize = 64;

pub(super) fn read_hub(source: &mut Section<'_>) -> Option<HubConfig> {
    let urls = read_urls(source, "http://hub:8500");
    let service = read_service(source);
    let name: Option<Arc<str>> = read_shown(source, "name");
    let name = name.unwrap_or_else(|| {
        let name = node_name();
        source.show("name", &*name);
        name
    });
    if !name.bytes().all(|byte| byte.is_ascii_graphic()) {
        source.problem("name", format!("{name:?} is no name: use visible ASCII characters"));
    }
    let credentials = read_credentials(source, &urls);
    let address = match (urls.is_empty(), service) {
        (false, None) => HubAddress::Urls(urls),
        (true, Some(service)) => HubAddress::Service(service),
        (false, Some(_)) => {
            source.problem("service", "give either url or service: remove one");
            return None;
        }
        (true, None) => {
            if !source.has("url") && !source.has("service") {
                source.problem(
                    "url",
                    "missing: name the hub, as \"http://hub:8500\", or its service = \"NAMESPACE/NAME\"",
                );
            }
            return None;
        }
    };
    Some(HubConfig { address, name, credentials })
}

pub(super) fn read_eureka(source: &mut Section<'_>, cluster: Option<Arc<str>>) -> Option<EurekaConfig> {
    let urls = read_urls(source, "http://eureka:8761/eureka");
    if urls.is_empty() && !source.has("url") {
        source.problem("url", "missing: name the ring's servers, as [\"http://eureka:8761/eureka\"]");
    }
    let poll = Duration::from_secs(source.number("poll_seconds", 1..=150, 10));
    let apps: Vec<String> = source.texts("apps").unwrap_or_default().iter().map(|item| item.text.to_owned()).collect();
    source.show("apps", apps.clone());
    let secure = source.flag("secure", false);
    let credentials = read_credentials(source, &urls);
    let cluster = cluster.filter(|_| !urls.is_empty())?;
    Some(EurekaConfig { cluster, urls, poll, apps, secure, credentials })
}

/// One address, or a list of them.
pub(super) fn read_urls(source: &mut Section<'_>, example: &str) -> Vec<String> {
    let mut urls = Vec::new();
    if source.is_list("url") {
        let items = source.texts("url").unwrap_or_default();
        if items.is_empty() {
            source.problem("url", format!("is empty: name at least one, as {example:?}"));
        }
        for item in &items {
            match check_url(item.text, example) {
                Ok(()) if urls.iter().any(|url| url == item.text) => {
                    source.item_problem(item, format!("{} stands here twice: remove one", item.text));
                }
                Ok(()) => urls.push(item.text.to_owned()),
                Err(why) => source.item_problem(item, why),
            }
        }
    } else if let Some(text) = source.text("url") {
        match check_url(text, example) {
            Ok(()) => urls.push(text.to_owned()),
            Err(why) => source.problem("url", why),
        }
    }
    if urls.len() > MAX_URLS {
        source.problem("url", format!("has {} addresses: name at most {MAX_URLS}", urls.len()));
    }
    if !urls.is_empty() {
        source.show("url", urls.clone());
    }
    urls
}

pub(super) fn check_url(text: &str, example: &str) -> Result<(), String> {
    let bad = || format!("{text:?} is no address of a server: write it as {example:?}");
    let uri: hyper::Uri = text.parse().map_err(|_| bad())?;
    if uri.host().is_none() || !matches!(uri.scheme_str(), Some("http" | "https")) || uri.query().is_some() {
        return Err(bad());
    }
    if uri.authority().is_some_and(|it| it.as_str().contains('@')) {
        return Err("holds a password: secrets are read from files, as token_file".to_owned());
    }
    Ok(())
}

fn read_service(source: &mut Section<'_>) -> Option<ServiceAddress> {
    if !source.has("service") {
        return None;
    }
    let text = source.text("service").unwrap_or_default().to_owned();
    source.show("service", text.as_str());
    let port = source.number("port", 1..=65_535, DEFAULT_PORT);
    let slices = source.choice("lookup", ("dns", false), [("endpointslices", true)], &[]);
    let domain = read_shown::<String>(source, "cluster_domain").unwrap_or_else(|| "cluster.local".to_owned());
    let kubeconfig = read_shown::<String>(source, "kubeconfig").map(PathBuf::from);
    if kubeconfig.is_some() && !slices {
        source.problem("kubeconfig", "has no effect with lookup = \"dns\": remove it, or look up \"endpointslices\"");
    }
    let label = |part: &str| {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        !part.is_empty() && part.len() <= 63 && part.bytes().all(plain)
    };
    let Some((namespace, name)) = text.split_once('/').filter(|(namespace, name)| label(namespace) && label(name))
    else {
        source
            .problem("service", format!("{text:?} is no Service: write NAMESPACE/NAME, as \"tidegate/tidegate-hub\""));
        return None;
    };
    Some(ServiceAddress {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        port: u16::try_from(port).unwrap_or_default(),
        lookup: if slices { Lookup::Slices { kubeconfig } } else { Lookup::Dns },
        domain,
    })
}

/// What is shown and trusted. The files are looked at here, so that a bad one is found before anything starts; the
/// source reads them again by itself whenever it connects.
pub(super) fn read_credentials(source: &mut Section<'_>, urls: &[String]) -> Credentials {
    let mut credentials =
        Credentials { token: read_shown::<String>(source, "token_file").map(PathBuf::from), ..Credentials::default() };
    let secure = urls.iter().any(|url| url.starts_with("https:"));
    let Some(mut table) = source.inline("tls") else {
        if secure {
            source.problem("tls", "missing for https: name the authority's file, as tls = { ca = \"/etc/ssl/certs/ca-certificates.crt\" }");
        } else {
            look_at(source, "token_file", &credentials);
        }
        return credentials;
    };
    let mut shown = Table::new();
    let mut text = |key: &'static str| {
        let text = table.text(key)?;
        shown.insert(key.to_owned(), Value::from(text));
        Some(text.to_owned())
    };
    let (ca, certificate, key) = (text("ca"), text("certificate"), text("key"));
    credentials.server_name = text("server_name");
    if ca.is_none() && !table.has("ca") {
        table.problem("ca", "missing: name the authority's file in PEM");
    }
    match (&certificate, &key) {
        (Some(_), None) => table.problem("certificate", "needs its key: name the file as key"),
        (None, Some(_)) => table.problem("key", "needs its certificate: name the file as certificate"),
        _ => {}
    }
    table.finish();
    source.show("tls", shown);
    credentials.certificate = certificate.zip(key).map(|(one, other)| (one.into(), other.into()));
    if let Some(ca) = ca {
        credentials.ca = Some(ca.into());
        look_at(source, "tls", &credentials);
    }
    credentials
}

fn look_at(source: &Section<'_>, key: &'static str, credentials: &Credentials) {
    if let Err(error) = Fetcher::new("http://localhost", credentials) {
        source.problem(key, error.to_string());
    }
}

/// As records name it: what Kubernetes calls the node, or the machine's own name.
pub(super) fn node_name() -> Arc<str> {
    let named = std::env::var("NODE_NAME").ok().filter(|name| !name.is_empty());
    named.unwrap_or_else(|| rustix::system::uname().nodename().to_string_lossy().into_owned()).into()
}
