//! `[admin]`.

use std::net::{Ipv4Addr, SocketAddr};

use super::section::Section;
use crate::admin::config::{AdminConfig, Token};

const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9900);

pub(super) fn read(mut section: Section<'_>) -> AdminConfig {
    let listen = match section.text("listen") {
        None => DEFAULT_LISTEN,
        Some(text) => text.parse().unwrap_or_else(|_| {
            section.problem("listen", format!("{text:?} is no address: write IP:PORT, as \"127.0.0.1:9900\""));
            DEFAULT_LISTEN
        }),
    };
    section.show("listen", listen.to_string());
    let tokens = match section.text("tokens_file") {
        None => Vec::new(),
        Some(path) => {
            section.show("tokens_file", path);
            section.secret("tokens_file", path).and_then(|text| parse_tokens(path, &text)).unwrap_or_else(|problem| {
                section.problem("tokens_file", problem);
                Vec::new()
            })
        }
    };
    if !listen.ip().to_canonical().is_loopback() && !section.has("tokens_file") {
        section.problem(
            "listen",
            format!("{listen} is not on loopback and nobody is asked for a token: set admin.tokens_file, or listen on 127.0.0.1"),
        );
    }
    section.finish();
    AdminConfig { listen, tokens }
}

/// One `name:token` a line; empty lines and lines that begin with `#` are skipped.
fn parse_tokens(path: &str, text: &str) -> Result<Vec<Token>, String> {
    let mut tokens: Vec<Token> = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let at = format!("{path}: line {}", index + 1);
        let (name, secret) = line.split_once(':').ok_or_else(|| format!("{at}: write name:token"))?;
        // Anything else could not be sent in a header, or would be cut there.
        if name.is_empty() || secret.is_empty() || !secret.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(format!("{at}: write name:token, the token of visible ASCII characters"));
        }
        if tokens.iter().any(|token| token.name == name) {
            return Err(format!("{at}: {name:?} has a token already: give each holder a name of its own"));
        }
        tokens.push(Token { name: name.to_owned(), secret: secret.to_owned() });
    }
    if tokens.is_empty() {
        return Err(format!("{path}: has no token: write one name:token a line"));
    }
    Ok(tokens)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_empty_lines_are_no_tokens() {
        let tokens = parse_tokens("tokens", "# who\n\nops:abc:def\r\nci: x").unwrap_err();
        assert_eq!(tokens, "tokens: line 4: write name:token, the token of visible ASCII characters");
        let tokens = parse_tokens("tokens", "# who\n\nops:abc:def\r\n").unwrap();
        assert_eq!((tokens[0].name.as_str(), tokens[0].secret.as_str()), ("ops", "abc:def"));
    }

    #[test]
    fn no_message_shows_a_token() {
        let error = parse_tokens("tokens", "ops:geheim\nops:geheim").unwrap_err();
        assert!(!error.contains("geheim"), "{error}");
        assert!(!format!("{:?}", parse_tokens("tokens", "ops:geheim").unwrap()).contains("geheim"));
    }
}
