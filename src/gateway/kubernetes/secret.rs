//! Secrets of the type `kubernetes.io/tls` as certificates.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Secret;

use super::object::Key;
use crate::gateway::tls::{Certificate, Identity};

/// Which Secrets are followed: nobody reads the others.
pub(super) const SELECTOR: &str = "type=kubernetes.io/tls";
/// Why a certificate is not shown, in a word.
pub(super) const INVALID: &str = "InvalidCertificateRef";

/// By their names; an error where one does not serve.
pub(super) type Secrets = BTreeMap<Key, Result<Certificate, String>>;

/// What a Secret holds. It is read at once, so that its key is kept once.
pub(super) fn read(secret: Secret) -> Result<Certificate, String> {
    let data = secret.data.unwrap_or_default();
    let part = |key: &str| data.get(key).map(|bytes| bytes.0.as_slice()).ok_or_else(|| format!("has no {key}"));
    let identity = Identity { chain: part("tls.crt")?, key: part("tls.key")? };
    Certificate::new(identity).map_err(|error| match error {
        crate::net::tls::TlsError::Key(why) => format!("tls.key {why}"),
        other => format!("tls.crt {other}"),
    })
}

/// The certificate of a Secret.
///
/// # Errors
/// A sentence for people: it is not there, or does not serve.
pub(super) fn find<'a>(secrets: &'a Secrets, namespace: &str, name: &str) -> Result<&'a Certificate, String> {
    match secrets.get(&(namespace.to_owned(), name.to_owned())) {
        Some(Ok(certificate)) => Ok(certificate),
        Some(Err(why)) => Err(format!("Secret {namespace}/{name}: {why}")),
        None => Err(format!(
            "Secret {namespace}/{name} is not there, is not of the type kubernetes.io/tls, or may not be read"
        )),
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::ByteString;

    use super::*;
    use crate::gateway::certificates::tests::pair;

    #[test]
    fn a_secret_serves_or_says_why_not_and_never_shows_its_key() {
        let (good, other) = (pair(&["a.example"]), pair(&["b.example"]));
        let secret = |parts: &[(&str, &str)]| {
            let data = parts.iter().map(|(key, text)| ((*key).to_owned(), ByteString(text.as_bytes().to_vec())));
            read(Secret { data: Some(data.collect()), ..Secret::default() })
        };
        assert!(secret(&[("tls.crt", &good.0), ("tls.key", &good.1)]).is_ok());
        for (parts, wanted) in [
            (&[("tls.crt", good.0.as_str())][..], "has no tls.key"),
            (&[("tls.crt", good.0.as_str()), ("tls.key", other.1.as_str())], "tls.key does not serve: "),
            (&[("tls.crt", "x"), ("tls.key", good.1.as_str())], "tls.crt holds no certificate"),
        ] {
            let said = secret(parts).unwrap_err();
            assert!(said.starts_with(wanted) && !said.contains("PRIVATE"), "{said}");
        }
        let secrets: Secrets = [(("shop".to_owned(), "bad".to_owned()), Err("has no tls.key".to_owned()))].into();
        assert_eq!(find(&secrets, "shop", "bad").unwrap_err(), "Secret shop/bad: has no tls.key");
        assert!(find(&secrets, "shop", "gone").unwrap_err().starts_with("Secret shop/gone is not there"));
    }
}
