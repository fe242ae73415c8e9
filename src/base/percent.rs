//! Text as a value in a query.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, PercentEncode, utf8_percent_encode};

/// All but what RFC 3986 reserves nowhere, and `/`, which a query may have as it is (section 3.4).
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');

/// A text so that nothing of it means anything else in a query.
pub fn encoded(text: &str) -> PercentEncode<'_> {
    utf8_percent_encode(text, RESERVED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_reads_the_same() {
        for (text, wanted) in [
            ("eyJ2IjoibWV0YS==", "eyJ2IjoibWV0YS%3D%3D"),
            ("a+b/c&d%#e", "a%2Bb/c%26d%25%23e"),
            ("a{b=\"c\"} > 1", "a%7Bb%3D%22c%22%7D%20%3E%201"),
            ("-._~ü", "-._~%C3%BC"),
        ] {
            assert_eq!(encoded(text).to_string(), wanted);
        }
    }
}
