//! The tokens file of the pull API. One token a line, and after it what it grants; empty lines and lines that begin with
//! `#` are skipped:
//!
//! ```text
//! NAME:TOKEN [certificate] [clusters=A,B] [namespaces=A,B] [write] [gateways=A,B*]
//! NAME certificate …
//! ```
//!
//! `certificate` grants the same to whoever shows a client certificate with this name; then a token is not needed. Without clusters or namespaces it sees those of all. `write` lets it acknowledge, for the gateway of its own name or for
//! those that `gateways` names.

use super::section::Section;
use crate::discovery::config::{Scope, Token};

pub(super) fn read(section: &mut Section<'_>) -> Vec<Token> {
    let Some(path) = section.text("tokens_file") else { return Vec::new() };
    section.show("tokens_file", path);
    section.secret("tokens_file", path).and_then(|text| parse(path, &text)).unwrap_or_else(|problem| {
        section.problem("tokens_file", problem);
        Vec::new()
    })
}

fn parse(path: &str, text: &str) -> Result<Vec<Token>, String> {
    let mut tokens: Vec<Token> = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let token = parse_line(line).map_err(|problem| format!("{path}: line {}: {problem}", index + 1))?;
        if tokens.iter().any(|it| it.name == token.name) {
            return Err(format!(
                "{path}: line {}: {:?} has a token already: give each holder a name of its own",
                index + 1,
                token.name
            ));
        }
        tokens.push(token);
    }
    if tokens.is_empty() {
        return Err(format!("{path}: has no token: write one name:token a line"));
    }
    Ok(tokens)
}

/// The error shows no token.
fn parse_line(line: &str) -> Result<Token, String> {
    let mut words = line.split_ascii_whitespace();
    let first = words.next().unwrap_or_default();
    let certificate = words.clone().any(|word| word == "certificate");
    let (name, secret) = match first.split_once(':') {
        Some((_, "")) => return Err("write name:token, the token of visible ASCII characters".to_owned()),
        Some((name, secret)) => (name, secret),
        None if certificate => (first, ""),
        None => return Err("write name:token".to_owned()),
    };
    if name.is_empty() || !line.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ' || byte == b'\t') {
        return Err("write name:token, the token of visible ASCII characters".to_owned());
    }
    let mut token = Token {
        name: name.to_owned(),
        secret: secret.to_owned(),
        certificate,
        scope: Scope::default(),
        may_write: false,
        gateways: vec![name.to_owned()],
    };
    for word in words {
        let list = |text: &str| text.split(',').filter(|it| !it.is_empty()).map(str::to_owned).collect::<Vec<_>>();
        let (key, names) = match word.split_once('=') {
            Some((key, names)) => (key, list(names)),
            None => (word, Vec::new()),
        };
        match (key, names.is_empty()) {
            ("clusters", false) => token.scope.clusters = names,
            ("namespaces", false) => token.scope.namespaces = names,
            ("gateways", false) => token.gateways = names,
            ("certificate", true) if !word.contains('=') => {}
            ("write", true) if !word.contains('=') => token.may_write = true,
            _ => return Err(format!("{key}: use clusters=A,B, namespaces=A,B, write, certificate, or gateways=A,B*")),
        }
    }
    Ok(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_token_and_what_it_grants() {
        let text = "# who\n\nall:abc:def\nedge:xyz clusters=east,west namespaces=shop write gateways=edge-*\n";
        let tokens = parse("tokens", text).unwrap();
        assert_eq!(
            (tokens[0].secret.as_str(), tokens[0].may_write, tokens[0].gateways.as_slice()),
            ("abc:def", false, &["all".to_owned()][..])
        );
        assert_eq!(
            tokens[1].scope,
            Scope { clusters: vec!["east".into(), "west".into()], namespaces: vec!["shop".into()] }
        );
        assert!(tokens[1].may_write && tokens[1].gateways == ["edge-*"]);
        let tokens = parse("tokens", "edge.example certificate write\nboth:xyz certificate\nplain:abc\n").unwrap();
        let grants: Vec<_> = tokens.iter().map(|it| (it.name.as_str(), it.secret.as_str(), it.certificate)).collect();
        assert_eq!(grants, [("edge.example", "", true), ("both", "xyz", true), ("plain", "abc", false)]);
    }

    #[test]
    fn a_bad_line_is_named_and_no_message_shows_a_token() {
        for (bad, why) in [
            ("edge", "line 1: write name:token"),
            ("a:geheim\na:geheim", "line 2: \"a\" has a token already"),
            ("a:geheim clusters=", "clusters: use"),
            ("a:geheim admin", "admin: use"),
            ("a:geheim write=yes", "write: use"),
            ("# nothing", "has no token"),
        ] {
            let error = parse("tokens", bad).unwrap_err();
            assert!(error.contains(why) && !error.contains("geheim"), "{bad}: {error}");
        }
    }
}
