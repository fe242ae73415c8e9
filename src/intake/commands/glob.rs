//! Redis's glob patterns (`*`, `?`, `[a-z]`, `[^a]`, `\`) over bytes.
//!
//! Matching looks back to the last `*` only, so its cost is bounded by pattern times text, whatever a client sends.

/// Whether `text` as a whole matches `pattern`.
pub fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut pattern, mut text) = (pattern, text);
    // Where to go on when a later part fails: behind the last star, one byte of text further.
    let mut retry: Option<(&[u8], &[u8])> = None;
    loop {
        if let [b'*', rest @ ..] = pattern {
            pattern = rest;
            retry = Some((rest, text));
            continue;
        }
        match (text, pattern) {
            ([], []) => return true,
            ([byte, text_rest @ ..], [_, ..]) => {
                if let Some(rest) = one(pattern, *byte) {
                    (pattern, text) = (rest, text_rest);
                    continue;
                }
            }
            _ => {}
        }
        match retry {
            Some((after_star, [_, rest @ ..])) => {
                (pattern, text) = (after_star, rest);
                retry = Some((after_star, rest));
            }
            _ => return false,
        }
    }
}

/// Matches one byte against the pattern's first element; gives what follows it.
fn one(pattern: &[u8], byte: u8) -> Option<&[u8]> {
    match pattern {
        [b'?', rest @ ..] => Some(rest),
        [b'[', rest @ ..] => class(rest, byte),
        [b'\\', literal, rest @ ..] | [literal, rest @ ..] => (*literal == byte).then_some(rest),
        [] => None,
    }
}

/// Matches one byte against a class, `[` already taken; an unclosed class ends with the pattern.
fn class(pattern: &[u8], byte: u8) -> Option<&[u8]> {
    let (wanted, mut rest) = match pattern {
        [b'^', rest @ ..] => (false, rest),
        _ => (true, pattern),
    };
    let mut found = false;
    loop {
        rest = match rest {
            [] => break,
            [b']', after @ ..] => {
                rest = after;
                break;
            }
            [b'\\', literal, after @ ..] => {
                found |= *literal == byte;
                after
            }
            [low, b'-', high, after @ ..] => {
                let (low, high) = (low.min(high), low.max(high));
                found |= (*low..=*high).contains(&byte);
                after
            }
            [literal, after @ ..] => {
                found |= *literal == byte;
                after
            }
        };
    }
    (found == wanted).then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn patterns_match_as_in_redis() {
        for (pattern, text, expected) in [
            ("", "", true),
            ("*", "", true),
            ("app-*", "app-log", true),
            ("app-*", "web-app-log", false),
            ("*-log", "a-log-log", true),
            ("*-log", "a-log-", false),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("a[b-d]e", "ace", true),
            ("a[d-b]e", "ace", true),
            ("a[^b]e", "abe", false),
            ("a[^b]e", "ace", true),
            ("a\\*c", "a*c", true),
            ("a\\*c", "abc", false),
            ("[a-", "a", true),
            ("**a**", "xxaxx", true),
            ("a\\", "a\\", true),
        ] {
            assert_eq!(matches(pattern.as_bytes(), text.as_bytes()), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn many_stars_cost_no_exponential_time() {
        let pattern = "*a".repeat(40) + "b";
        assert!(!matches(pattern.as_bytes(), "a".repeat(4000).as_bytes()));
    }

    #[test]
    fn bytes_that_are_no_utf8_are_bytes_as_any_other() {
        assert!(matches(b"\xff?\xfe", b"\xff\x80\xfe"));
    }
}
