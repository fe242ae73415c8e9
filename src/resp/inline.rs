//! Inline commands: a line of words, quoted as in Redis (`sdssplitargs` of `src/sds.c`).

/// Splits `line` into words, appending their bytes to `words` and their places to `spans`. Double quotes know `\n`, `\r`,
/// `\t`, `\b`, `\a` and `\xHH`; single quotes know `\'` alone; a closing quote must end its word. Nothing is returned
/// where quotes do not match.
pub(super) fn split(line: &[u8], words: &mut Vec<u8>, spans: &mut Vec<(u32, u32)>) -> Option<()> {
    let mut rest = line;
    loop {
        while let Some((first, tail)) = rest.split_first()
            && is_space(*first)
        {
            rest = tail;
        }
        if rest.is_empty() {
            return Some(());
        }
        let start = u32::try_from(words.len()).ok()?;
        rest = word(rest, words)?;
        spans.push((start, u32::try_from(words.len()).ok()?));
    }
}

/// Takes one word off `rest`.
fn word<'a>(mut rest: &'a [u8], words: &mut Vec<u8>) -> Option<&'a [u8]> {
    while let Some((&byte, tail)) = rest.split_first() {
        match byte {
            byte if is_space(byte) => return Some(tail),
            b'"' => return closed(double_quoted(tail, words)?),
            b'\'' => return closed(single_quoted(tail, words)?),
            byte => words.push(byte),
        }
        rest = tail;
    }
    Some(rest)
}

fn double_quoted<'a>(mut rest: &'a [u8], words: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        rest = match rest {
            [b'\\', b'x', high, low, tail @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                words.push(hex(*high) << 4 | hex(*low));
                tail
            }
            [b'\\', escaped, tail @ ..] => {
                words.push(match escaped {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 8,
                    b'a' => 7,
                    other => *other,
                });
                tail
            }
            [b'"', tail @ ..] => return Some(tail),
            [byte, tail @ ..] => {
                words.push(*byte);
                tail
            }
            [] => return None,
        }
    }
}

fn single_quoted<'a>(mut rest: &'a [u8], words: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        rest = match rest {
            [b'\\', b'\'', tail @ ..] => {
                words.push(b'\'');
                tail
            }
            [b'\'', tail @ ..] => return Some(tail),
            [byte, tail @ ..] => {
                words.push(*byte);
                tail
            }
            [] => return None,
        }
    }
}

/// Behind a closing quote only a space or the end may come.
fn closed(rest: &[u8]) -> Option<&[u8]> {
    match rest.first() {
        None => Some(rest),
        Some(&byte) if is_space(byte) => Some(rest),
        Some(_) => None,
    }
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c | 0)
}

fn hex(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        b'a'..=b'f' => digit - b'a' + 10,
        _ => digit.wrapping_sub(b'A').wrapping_add(10),
    }
}
