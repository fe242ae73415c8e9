//! What is known of a record's sender, by name.
//!
//! A label's key is written without dots and slashes. In an index `pod.label.app` = "demo" of one pod and
//! `pod.label.app.kubernetes.io/name` of another are a text and an object of the same name: the second line is lost. So no
//! name here has a dot, and every value is a text.

use std::collections::BTreeMap;

use crate::record::config::EnrichConfig;
use crate::record::pods::{Attribution, Pod};

/// What the names of labels begin with.
pub(super) const LABEL: &str = "pod_label_";
/// The labels of one pod that are written, and the bytes of them: more are no labels but a payload.
const MOST_LABELS: usize = 64;
const MOST_LABEL_BYTES: usize = 16 << 10;

/// What is known of a sender.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The Redis key or channel.
    pub key: &'a [u8],
    /// The client's address.
    pub client: &'a str,
    /// What it calls itself; empty: nothing.
    pub client_name: &'a str,
    /// As whom it logged in; empty: nobody.
    pub user: &'a str,
    /// The node that this runs on; empty: not known.
    pub node: &'a str,
    /// Whose connection it is.
    pub pod: &'a Attribution,
}

// === impl Facts ===

impl Facts<'_> {
    /// What `config` asks for and is known, in order.
    pub(super) fn named(&self, config: &EnrichConfig) -> Vec<(String, String)> {
        let mut named = Vec::new();
        let mut add = |wanted: bool, name: &str, value: &str| {
            if wanted && !value.is_empty() {
                named.push((name.to_owned(), value.to_owned()));
            }
        };
        add(config.key, "key", &String::from_utf8_lossy(self.key));
        add(config.client, "client", self.client);
        add(config.client, "client_name", self.client_name);
        add(config.user, "user", self.user);
        add(config.node, "node", self.node);
        match self.pod {
            _ if !config.pod => {}
            Attribution::Pod(pod) => {
                add(true, "pod_namespace", &pod.namespace);
                add(true, "pod_name", &pod.name);
                add(true, "pod_owner", pod.owner.as_deref().unwrap_or_default());
                named.extend(labels(pod));
            }
            Attribution::Unknown => add(true, "pod_unknown", "true"),
            Attribution::None => {}
        }
        named
    }

    /// What GELF calls the host.
    pub(super) fn host(&self) -> &str {
        match self.pod {
            Attribution::Pod(pod) => &pod.name,
            _ => self.client.rsplit_once(':').map_or(self.client, |(host, _)| host),
        }
    }
}

/// Labels by the names that they are written under. Where two would get the same, the one that is called so has it, else the
/// first.
fn labels(pod: &Pod) -> impl Iterator<Item = (String, String)> {
    let mut written: BTreeMap<String, (&str, &str)> = BTreeMap::new();
    let mut bytes = 0;
    for (key, value) in pod.labels.iter().take(MOST_LABELS) {
        bytes += key.len() + value.len();
        if bytes > MOST_LABEL_BYTES {
            break;
        }
        let name = without_dots(key);
        if *key == name || !written.contains_key(&name) {
            written.insert(name, (key, value));
        }
    }
    written
        .into_iter()
        .map(|(name, (_, value))| (format!("{LABEL}{name}"), value.to_owned()))
        .collect::<Vec<_>>()
        .into_iter()
}

fn without_dots(key: &str) -> String {
    key.chars()
        .map(|char| if char.is_ascii_alphanumeric() || char == '-' || char == '_' { char } else { '_' })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(labels_of: &[(&str, &str)]) -> Vec<(String, String)> {
        let labels_of = labels_of.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        labels(&Pod { labels: labels_of, ..Pod::default() }).collect()
    }

    fn pair(name: &str, value: &str) -> (String, String) {
        (format!("{LABEL}{name}"), value.to_owned())
    }

    #[test]
    fn a_label_and_one_whose_key_begins_with_it_are_two_names_without_dots() {
        let written = of(&[("app", "demo"), ("app.kubernetes.io/name", "shop")]);
        assert_eq!(written, [pair("app", "demo"), pair("app_kubernetes_io_name", "shop")]);
    }

    #[test]
    fn one_name_is_written_once() {
        assert_eq!(of(&[("a.b", "1"), ("a/b", "2"), ("a_b", "3")]), [pair("a_b", "3")]);
        assert_eq!(of(&[("a.b", "1"), ("a/b", "2")]), [pair("a_b", "1")]);
    }

    #[test]
    fn labels_are_no_payload() {
        let large = "x".repeat(MOST_LABEL_BYTES);
        assert_eq!(of(&[("a", "1"), ("b", &large)]), [pair("a", "1")]);
    }
}
