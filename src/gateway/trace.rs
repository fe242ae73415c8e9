//! W3C trace context: a request that carries a trace keeps it, one that carries none may begin one.

use hyper::HeaderMap;
use hyper::header::{HeaderName, HeaderValue};

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
const LENGTH: usize = 55;

/// The id of a request's trace, 32 hexadecimal digits.
pub(super) fn id(headers: &HeaderMap) -> Option<&str> {
    parse(headers.get(TRACEPARENT)?)
}

/// Begins a trace where there is none that can be read. `random` gives numbers that are not 0.
pub(super) fn start(headers: &mut HeaderMap, mut random: impl FnMut() -> u64) {
    if id(headers).is_some() {
        return;
    }
    headers.remove(TRACESTATE);
    let (high, low, span) = (random(), random() | 1, random() | 1);
    let text = format!("00-{high:016x}{low:016x}-{span:016x}-01");
    if let Ok(value) = HeaderValue::try_from(text) {
        headers.insert(TRACEPARENT, value);
    }
}

fn parse(value: &HeaderValue) -> Option<&str> {
    let text = value.to_str().ok()?;
    let mut parts = text.split('-');
    let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let hex =
        |text: &str, length| text.len() == length && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let is_zero = |text: &str| text.bytes().all(|byte| byte == b'0');
    let good = hex(version, 2) && version != "ff" && hex(trace, 32) && hex(span, 16) && hex(flags, 2);
    let length = if version == "00" { text.len() == LENGTH } else { text.len() >= LENGTH };
    (good && length && !is_zero(trace) && !is_zero(span)).then_some(trace)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(text: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(TRACEPARENT, text.parse().unwrap());
        headers.insert(TRACESTATE, HeaderValue::from_static("a=b"));
        headers
    }

    const GOOD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn a_trace_that_can_be_read_is_kept_and_another_is_begun_anew() {
        for good in [GOOD, "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more"] {
            let mut headers = with(good);
            start(&mut headers, || panic!("begun anew"));
            assert_eq!((&headers[TRACEPARENT], headers.contains_key(TRACESTATE)), (&good.parse().unwrap(), true));
        }
        for bad in [
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0AF7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
            "00-0af7",
        ] {
            let mut headers = with(bad);
            start(&mut headers, || 7);
            assert_eq!(id(&headers), Some("00000000000000070000000000000007"), "{bad}");
            assert!(!headers.contains_key(TRACESTATE));
        }
    }
}
