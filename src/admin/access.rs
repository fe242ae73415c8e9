//! Who may read what is not open.
//!
//! A peer on loopback whose `Host` is this machine: a page from elsewhere that had its own name resolved to 127.0.0.1 is
//! not. And whoever sends a token, as `Authorization: Bearer TOKEN` or, so that a browser can ask for it, as Basic with
//! the token's name and the token.

use std::net::IpAddr;

use base64::prelude::{BASE64_STANDARD, Engine};
use subtle::ConstantTimeEq;

use super::config::Token;

/// The rule of one server.
#[derive(Debug)]
pub(super) struct Access {
    tokens: Vec<Token>,
}

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// No token, or not one of ours: 401.
    Token,
    /// There are no tokens and the request is not from this machine: 403.
    NotLocal,
}

// === impl Access ===

impl Access {
    pub(super) fn new(tokens: Vec<Token>) -> Self {
        Self { tokens }
    }

    /// Decides on a request by its peer and its `Host` and `Authorization` headers.
    pub(super) fn check(&self, peer: IpAddr, host: Option<&str>, authorization: Option<&str>) -> Result<(), Refusal> {
        if peer.to_canonical().is_loopback() && host.is_none_or(names_this_machine) {
            return Ok(());
        }
        if self.tokens.is_empty() {
            return Err(Refusal::NotLocal);
        }
        let (scheme, credentials) = authorization.and_then(|value| value.split_once(' ')).ok_or(Refusal::Token)?;
        let known = if scheme.eq_ignore_ascii_case("bearer") {
            self.knows(|token| token.secret.as_bytes().ct_eq(credentials.trim().as_bytes()))
        } else if scheme.eq_ignore_ascii_case("basic") {
            let pair = BASE64_STANDARD.decode(credentials.trim()).map_err(|_| Refusal::Token)?;
            self.knows(|token| format!("{}:{}", token.name, token.secret).as_bytes().ct_eq(&pair))
        } else {
            false
        };
        if known { Ok(()) } else { Err(Refusal::Token) }
    }

    /// Compares with every token, so that the time tells nothing about which one was close.
    fn knows(&self, equals: impl Fn(&Token) -> subtle::Choice) -> bool {
        self.tokens.iter().map(equals).fold(subtle::Choice::from(0), |any, one| any | one).into()
    }
}

fn names_this_machine(host: &str) -> bool {
    let name = host
        .rsplit_once(':')
        .map_or(host, |(name, port)| if port.bytes().all(|b| b.is_ascii_digit()) { name } else { host });
    let name = name.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: &str = "127.0.0.1";
    const THERE: &str = "10.1.2.3";

    fn with_token() -> Access {
        Access::new(vec![
            Token { name: "ops".into(), secret: "abc".into() },
            Token { name: "ci".into(), secret: "xyz".into() },
        ])
    }

    fn check(access: &Access, peer: &str, host: &str, authorization: Option<&str>) -> Result<(), Refusal> {
        access.check(peer.parse().unwrap(), Some(host), authorization)
    }

    #[test]
    fn without_tokens_only_this_machine_reads() {
        let open = Access::new(Vec::new());
        for host in ["127.0.0.1:9900", "localhost:9900", "LOCALHOST", "[::1]:9900"] {
            assert_eq!(check(&open, HERE, host, None), Ok(()), "{host}");
        }
        assert_eq!(check(&open, "::ffff:127.0.0.1", "localhost", None), Ok(()));
        assert_eq!(check(&open, THERE, "127.0.0.1:9900", None), Err(Refusal::NotLocal));
    }

    #[test]
    fn a_name_that_resolves_to_loopback_is_not_this_machine() {
        assert_eq!(check(&Access::new(Vec::new()), HERE, "evil.example:9900", None), Err(Refusal::NotLocal));
    }

    #[test]
    fn from_elsewhere_everybody_sends_a_token() {
        let access = with_token();
        for good in ["Bearer abc", "bearer  xyz", "Basic b3BzOmFiYw=="] {
            assert_eq!(check(&access, THERE, "any", Some(good)), Ok(()), "{good}");
        }
        for bad in ["Bearer ab", "Bearer abcd", "Bearer ", "abc", "Digest abc", "Basic b3BzOnh5eg==", "Basic !"] {
            assert_eq!(check(&access, THERE, "any", Some(bad)), Err(Refusal::Token), "{bad}");
        }
        assert_eq!(check(&access, THERE, "localhost", None), Err(Refusal::Token));
    }

    #[test]
    fn with_tokens_this_machine_still_reads_without_one_but_not_under_a_foreign_name() {
        let access = with_token();
        assert_eq!(check(&access, HERE, "localhost", None), Ok(()));
        assert_eq!(check(&access, HERE, "evil.example", None), Err(Refusal::Token));
    }
}
