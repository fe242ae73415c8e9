//! How a dead letter looks.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::read::Letter;
use crate::record::dead_letter::{AT, CLIENT, CUT, KEY, REASON, ROUTE, TOPIC};

/// One line for people: where it is, when and why it came, what it was.
pub(super) fn line(letter: &Letter, done: bool) -> String {
    let text = |name| letter.text(name).map_or_else(|| "-".to_owned(), |text| visible(&text));
    let Letter { partition, offset, .. } = letter;
    let mut line = format!(
        "{partition}@{offset} {} {} topic={} key={} route={} client={} bytes={}",
        text(AT),
        text(REASON),
        text(TOPIC),
        text(KEY),
        text(ROUTE),
        text(CLIENT),
        letter.value.len(),
    );
    if let Some(size) = letter.text(CUT) {
        line.push_str(&format!(" cut-from={}", visible(&size)));
    }
    if done {
        line.push_str(" requeued");
    }
    line
}

/// The same as a JSON object.
pub(super) fn json(letter: &Letter, done: bool) -> Value {
    let time = letter.timestamp_ms.and_then(|time| Timestamp::from_millisecond(time).ok());
    json!({
        "partition": letter.partition,
        "offset": letter.offset,
        "time": time.map(|time| format!("{time:.3}")),
        "at": letter.text(AT),
        "reason": letter.text(REASON),
        "topic": letter.text(TOPIC),
        "key": letter.text(KEY),
        "route": letter.text(ROUTE),
        "client": letter.text(CLIENT),
        "bytes": letter.value.len(),
        "cut_from": letter.text(CUT).and_then(|size| size.parse::<u64>().ok()),
        "requeued": done,
    })
}

/// Text in which no record can move the cursor, nor look like another field.
fn visible(text: &str) -> String {
    text.chars()
        .flat_map(|char| {
            let escaped = char.is_control() || char == ' ' || char == '\\';
            let plain = (!escaped).then_some(char);
            plain.into_iter().chain(escaped.then(|| char.escape_unicode()).into_iter().flatten())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_letter_can_move_the_cursor_or_pose_as_another_field() {
        let letter = Letter {
            partition: 1,
            offset: 7,
            timestamp_ms: Some(0),
            key: None,
            value: vec![b'x'; 3],
            headers: vec![(KEY.into(), b"a topic=b\x1b[2J".to_vec()), (CUT.into(), b"9".to_vec())],
        };
        let shown = line(&letter, true);
        assert_eq!(shown, "1@7 - - topic=- key=a\\u{20}topic=b\\u{1b}[2J route=- client=- bytes=3 cut-from=9 requeued");
        assert_eq!(json(&letter, false)["cut_from"], 9);
    }
}
