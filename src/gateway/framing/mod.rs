//! Where a message of HTTP/1.1 begins and ends, told strictly.
//!
//! Two programs that disagree about the end of a request let a client hide a second one in it. So what can be read in two ways
//! is refused before anything else sees it (RFC 9112, sections 2.2, 5, 6 and 7):
//!
//! - a line ends with CRLF; neither CR nor LF stands alone anywhere in a head;
//! - a field is `name:`, the name a token, nothing before the colon, no folded lines, no control characters in the value;
//! - one `Host`, and exactly one in HTTP/1.1;
//! - at most one `Content-Length`, digits alone; at most one `Transfer-Encoding`, exactly `chunked`, in HTTP/1.1 alone; never both;
//! - a chunk's size is 1 to 15 hexadecimal digits, its extensions are short, its data ends with CRLF; trailers are fields.
//!
//! [`Framing`] does no I/O: it is shown bytes in order and says how many of them are good. A head is good as a whole or
//! not at all, so that whoever reads behind it never sees half of one.

mod chunk;
#[cfg(test)]
mod tests;

use self::chunk::{Chunk, chunks};
use super::reason::Reason;

/// Empty lines that are passed over before a request, as old clients send them after a body.
const MAX_EMPTY_LINES: usize = 2;
/// More digits than these could overflow.
const MAX_LENGTH_DIGITS: usize = 18;

/// Bounds of a request's head.
#[derive(Clone, Copy, Debug)]
pub struct HeadLimits {
    /// Of all of it, in bytes.
    pub size: usize,
    /// Of the request's target, in bytes.
    pub target: usize,
    /// Number of fields.
    pub fields: usize,
}

/// What to do with the bytes shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// So many of them, at least one, are good.
    Pass(usize),
    /// They are the beginning of a head: show them again with what follows.
    Hold,
    /// A request asks for an upgrade: what follows means nothing until it is answered ([`Framing::answered`]).
    Wait,
    /// They are refused; nothing of the connection can be read any more.
    Refuse(Reason),
}

/// The state of one connection's receiving side.
#[derive(Debug)]
pub struct Framing {
    state: State,
    limits: HeadLimits,
    /// Bytes of a held head that were looked at.
    scanned: usize,
    empty_lines: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Head,
    /// So many bytes of a body are to come.
    Body(u64),
    Chunked(Chunk),
    Upgrade,
    /// Another protocol.
    Opaque,
}

/// What a head says about what follows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Follows {
    Nothing,
    Length(u64),
    Chunks,
    Upgrade,
}

// === impl Framing ===

impl Framing {
    /// At the beginning of a connection.
    pub fn new(limits: HeadLimits) -> Self {
        Self { state: State::Head, limits, scanned: 0, empty_lines: 0 }
    }

    /// Whether the next byte begins a request.
    pub fn at_head(&self) -> bool {
        self.state == State::Head
    }

    /// An upgrade was answered: with `taken`, what follows is another protocol's; else it is the next request.
    pub fn answered(&mut self, taken: bool) {
        if self.state == State::Upgrade {
            self.state = if taken { State::Opaque } else { State::Head };
        }
    }

    /// Whether an upgrade waits for its answer.
    pub fn awaits_answer(&self) -> bool {
        self.state == State::Upgrade
    }

    /// Looks at bytes that follow those passed so far; at least one.
    pub fn step(&mut self, bytes: &[u8]) -> Step {
        match self.state {
            State::Opaque => Step::Pass(bytes.len()),
            State::Upgrade => Step::Wait,
            State::Head => self.head(bytes),
            State::Body(left) => {
                let count = bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                let left = left - u64::try_from(count).unwrap_or_default();
                self.state = if left == 0 { State::Head } else { State::Body(left) };
                Step::Pass(count)
            }
            State::Chunked(chunk) => match chunks(chunk, bytes) {
                Ok((count, Some(next))) => {
                    self.state = State::Chunked(next);
                    Step::Pass(count)
                }
                Ok((count, None)) => {
                    self.state = State::Head;
                    Step::Pass(count)
                }
                Err(reason) => Step::Refuse(reason),
            },
        }
    }

    fn head(&mut self, bytes: &[u8]) -> Step {
        if bytes.starts_with(b"\r\n") {
            self.empty_lines += 1;
            return if self.empty_lines > MAX_EMPTY_LINES { Step::Refuse(Reason::Malformed) } else { Step::Pass(2) };
        }
        if bytes == b"\r" {
            return Step::Hold;
        }
        // What is beyond the limit is not looked at: how much of it is there already changes nothing.
        let allowed = bytes.get(..self.limits.size).unwrap_or(bytes);
        match end_of_head(allowed, self.scanned) {
            Err(reason) => Step::Refuse(reason),
            Ok(None) if bytes.len() > self.limits.size => Step::Refuse(self.too_large(allowed)),
            Ok(None) => {
                self.scanned = bytes.len();
                Step::Hold
            }
            Ok(Some(end)) => {
                (self.scanned, self.empty_lines) = (0, 0);
                match check_head(bytes.get(..end).unwrap_or_default(), &self.limits) {
                    Err(reason) => Step::Refuse(reason),
                    Ok(follows) => {
                        self.state = match follows {
                            Follows::Nothing | Follows::Length(0) => State::Head,
                            Follows::Length(length) => State::Body(length),
                            Follows::Chunks => State::Chunked(Chunk::Size { value: 0, digits: 0 }),
                            Follows::Upgrade => State::Upgrade,
                        };
                        Step::Pass(end)
                    }
                }
            }
        }
    }

    /// A target that fills the head on its own has a status of its own.
    fn too_large(&self, bytes: &[u8]) -> Reason {
        let line = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len());
        if line > self.limits.target { Reason::TargetTooLong } else { Reason::HeadTooLarge }
    }
}

/// The length of a head whose first `scanned` bytes do not complete it; nothing where it is not complete yet.
///
/// # Errors
/// A line feed stands alone.
fn end_of_head(bytes: &[u8], scanned: usize) -> Result<Option<usize>, Reason> {
    // The end may lie across what was seen and what is new.
    let from = scanned.saturating_sub(3).min(bytes.len());
    let new = bytes.get(from..).unwrap_or_default();
    for at in memchr::memchr_iter(b'\n', new).map(|at| from + at) {
        if at == 0 || bytes.get(at - 1) != Some(&b'\r') {
            return Err(Reason::Malformed);
        }
        if at >= 3 && bytes.get(at - 3..at) == Some(b"\r\n\r") {
            return Ok(Some(at + 1));
        }
    }
    Ok(None)
}

/// Checks a whole head, its last empty line included.
fn check_head(head: &[u8], limits: &HeadLimits) -> Result<Follows, Reason> {
    let mut lines = head.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let http11 = check_request_line(lines.next().unwrap_or_default(), limits)?;
    let (mut hosts, mut length, mut chunked, mut upgrade, mut fields) = (0, None, false, false, 0);
    for line in lines {
        if line.is_empty() {
            // The last one; none other is empty, or the head would have ended there.
            break;
        }
        fields += 1;
        let (name, value) = check_field(line)?;
        match name.len() {
            4 if name.eq_ignore_ascii_case(b"host") => hosts += 1,
            7 if name.eq_ignore_ascii_case(b"upgrade") => upgrade = http11,
            14 if name.eq_ignore_ascii_case(b"content-length") => {
                length = Some(first_length(length, value)?);
            }
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                if chunked || !http11 || !value.eq_ignore_ascii_case(b"chunked") {
                    return Err(Reason::Framing);
                }
                chunked = true;
            }
            _ => {}
        }
    }
    if fields > limits.fields {
        return Err(Reason::HeadTooLarge);
    }
    if hosts > 1 || (http11 && hosts == 0) {
        return Err(Reason::Host);
    }
    match (length, chunked) {
        (Some(_), true) => Err(Reason::Framing),
        (Some(length), false) if length > 0 => Ok(Follows::Length(length)),
        (None, true) => Ok(Follows::Chunks),
        _ if upgrade => Ok(Follows::Upgrade),
        _ => Ok(Follows::Nothing),
    }
}

/// Says whether it is HTTP/1.1.
fn check_request_line(line: &[u8], limits: &HeadLimits) -> Result<bool, Reason> {
    let mut parts = line.split(|byte| *byte == b' ');
    let (method, target, version) = (parts.next(), parts.next(), parts.next());
    let (Some(method), Some(target), Some(version), None) = (method, target, version, parts.next()) else {
        return Err(Reason::Malformed);
    };
    if target.len() > limits.target {
        return Err(Reason::TargetTooLong);
    }
    let good = !method.is_empty()
        && method.iter().all(|byte| is_token(*byte))
        && has_form(method, target)
        && target.iter().all(|byte| byte.is_ascii_graphic() && *byte != b'#');
    match version {
        b"HTTP/1.1" if good => Ok(true),
        b"HTTP/1.0" if good => Ok(false),
        _ if version.starts_with(b"HTTP/") && version.len() == 8 && good => Err(Reason::Version),
        _ => Err(Reason::Malformed),
    }
}

/// Whether a target has a form that its method may have (RFC 9112, section 3.2): of an origin, absolute, an authority for
/// `CONNECT` alone, or the server as a whole.
fn has_form(method: &[u8], target: &[u8]) -> bool {
    let begins = |scheme: &[u8]| target.get(..scheme.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(scheme));
    match method {
        b"CONNECT" => !target.is_empty(),
        b"OPTIONS" if target == b"*" => true,
        _ => target.starts_with(b"/") || begins(b"http://") || begins(b"https://"),
    }
}

fn check_field(line: &[u8]) -> Result<(&[u8], &[u8]), Reason> {
    let colon = memchr::memchr(b':', line).ok_or(Reason::Malformed)?;
    let (name, value) = line.split_at_checked(colon).ok_or(Reason::Malformed)?;
    if name.is_empty() || !name.iter().all(|byte| is_token(*byte)) {
        // A blank at its beginning (a folded line) or end among them.
        return Err(Reason::Malformed);
    }
    let value = value.get(1..).unwrap_or_default();
    if !value.iter().all(|byte| is_value(*byte)) {
        return Err(Reason::Malformed);
    }
    Ok((name, value.trim_ascii()))
}

/// The length of a body of which none was said before.
fn first_length(before: Option<u64>, value: &[u8]) -> Result<u64, Reason> {
    if before.is_some() { Err(Reason::Framing) } else { parse_length(value) }
}

fn parse_length(value: &[u8]) -> Result<u64, Reason> {
    if value.is_empty() || value.len() > MAX_LENGTH_DIGITS || !value.iter().all(u8::is_ascii_digit) {
        return Err(Reason::Framing);
    }
    Ok(value.iter().fold(0, |length, digit| length * 10 + u64::from(digit - b'0')))
}

/// A character of a token, RFC 9110 section 5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// A character of a field's value.
fn is_value(byte: u8) -> bool {
    byte == b'\t' || byte >= b' ' && byte != 0x7f
}
