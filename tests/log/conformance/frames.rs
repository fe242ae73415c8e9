//! Replies as they stand on the wire: cut apart, never interpreted.

/// One reply and, where it is an aggregate, what it is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    /// All its bytes.
    pub(crate) bytes: Vec<u8>,
    /// The elements of an array, set, map or push.
    pub(crate) elements: Vec<Frame>,
}

impl Frame {
    /// As a line of text: line ends are blanks, and what is no text is replaced.
    pub(crate) fn shown(&self) -> String {
        String::from_utf8_lossy(&self.bytes).trim_end().replace("\r\n", " ")
    }
}

/// Cuts bytes into replies. What is left is no whole reply, or none at all.
pub(crate) fn cut(mut bytes: &[u8]) -> (Vec<Frame>, Vec<u8>) {
    let mut frames = Vec::new();
    while let Some((frame, rest)) = one(bytes) {
        frames.push(frame);
        bytes = rest;
    }
    (frames, bytes.to_vec())
}

fn one(bytes: &[u8]) -> Option<(Frame, &[u8])> {
    let end = bytes.windows(2).position(|pair| pair == b"\r\n")? + 2;
    let (head, body) = bytes.split_at(end);
    let number = || std::str::from_utf8(head.get(1..head.len() - 2)?).ok()?.parse::<i64>().ok();
    let mut elements = Vec::new();
    let mut rest = body;
    match head.first()? {
        b'+' | b'-' | b':' | b'_' | b'#' | b',' | b'(' => {}
        b'$' | b'=' | b'!' => {
            if let Ok(length) = usize::try_from(number()?) {
                rest = body.get(length + 2..)?;
            }
        }
        kind @ (b'*' | b'~' | b'>' | b'%') => {
            let each = if *kind == b'%' { 2 } else { 1 };
            for _ in 0..number()?.max(0) * each {
                let (element, after) = one(rest)?;
                elements.push(element);
                rest = after;
            }
        }
        _ => return None,
    }
    let length = bytes.len() - rest.len();
    Some((Frame { bytes: bytes.get(..length)?.to_vec(), elements }, rest))
}

#[test]
fn replies_of_every_kind_are_cut_apart() {
    let wire = b"+OK\r\n$-1\r\n*2\r\n:1\r\n$3\r\na\r\n\r\n%1\r\n+a\r\n_\r\n>1\r\n=5\r\ntxt:x\r\n*-1\r\n*3\r\n:1\r\n";
    let (frames, left) = cut(wire);
    let shown: Vec<String> = frames.iter().map(Frame::shown).collect();
    assert_eq!(shown, ["+OK", "$-1", "*2 :1 $3 a", "%1 +a _", ">1 =5 txt:x", "*-1"]);
    assert_eq!(left, b"*3\r\n:1\r\n");
    assert_eq!(frames[3].elements.len(), 2);
}
