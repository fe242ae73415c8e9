//! The configuration file as operators meet it: what is refused is refused with its line, its key and the remedy.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

use tidegate::config::{self, ConfigError, Loaded};

/// A file that is good, to be made bad in one place.
const GOOD: &str = r#"[log]
listen = ["127.0.0.1:0"]

[log.kafka]
brokers = ["127.0.0.1:9092"]

[[log.route]]
key = "app-*"
"#;

fn parse(text: &str) -> Result<Loaded, ConfigError> {
    config::parse("t.toml", text)
}

/// The messages of a file that must be refused.
fn refusal(text: &str) -> String {
    match parse(text) {
        Ok(loaded) => panic!("accepted:\n{text}\nas:\n{}", loaded.effective),
        Err(error) => error.to_string(),
    }
}

#[test]
fn p() {
    println!("{}", parse(GOOD).unwrap().effective);
    println!("{}", parse(&parse(GOOD).unwrap().effective).unwrap().effective);
    println!(
        "{}",
        refusal(
            "[log]\nlisten=[\"0.0.0.0:1\"]\nmemry_limit=3\n[log.kafka]\n[log.kafka.properties]\nfoo=1\n\"group.id\"=3\n[[log.route]]\n[[log.route]]\nkey=\"*\"\nhold_ms=0\ncreate_topic={partitions=0}\n"
        )
    );
    println!("{}", refusal("[log\nlisten=[\"0.0.0.0:1\"]\nmemry_limit=3\na=1\na=2"));
    println!("{}", refusal(&GOOD.replace("[[log.route]]", "properties={\"group.id\"=1}\n[[log.route]]")));
    println!(
        "{}",
        refusal(&GOOD.replace(
            "[[log.route]]",
            "properties={\"ssl.ca.location\"=\"/nope\", \"security.protocol\"=\"ssl\"}\n[[log.route]]"
        ))
    );
}
