//! Sizes as people write them: `256MiB`, `64KiB`, `1500`.

use std::fmt;
use std::str::FromStr;

/// A number of bytes. Written with a binary unit (`KiB`, `MiB`, `GiB`, `TiB`), a decimal one (`KB`, `MB`, `GB`, `TB`) or none (bytes, also `B`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

/// Why a text is no size.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ByteSizeError {
    /// It does not begin with a whole number.
    #[error("is no size: write a whole number and a unit, as \"64KiB\" or \"256MiB\"")]
    Number,
    /// Its unit is not known.
    #[error("has an unknown unit: use B, KiB, MiB, GiB, TiB, KB, MB, GB or TB")]
    Unit,
    /// It is above 2^64 bytes.
    #[error("is larger than any machine can hold")]
    Overflow,
}

/// Largest first, so that formatting takes the largest unit that divides the size.
const UNITS: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("KB", 1_000),
    ("B", 1),
];

// === impl ByteSize ===

impl FromStr for ByteSize {
    type Err = ByteSizeError;

    fn from_str(text: &str) -> Result<Self, ByteSizeError> {
        let text = text.trim();
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at_checked(digits).ok_or(ByteSizeError::Number)?;
        if number.is_empty() {
            return Err(ByteSizeError::Number);
        }
        let number: u64 = number.parse().map_err(|_| ByteSizeError::Overflow)?;
        let unit = unit.trim_start();
        let factor = match unit {
            "" => 1,
            unit => {
                let known = UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit));
                known.map(|(_, factor)| *factor).ok_or(ByteSizeError::Unit)?
            }
        };
        number.checked_mul(factor).map(Self).ok_or(ByteSizeError::Overflow)
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let exact = UNITS.iter().find(|(_, factor)| self.0 >= *factor && self.0.is_multiple_of(*factor));
        match exact {
            Some((unit, factor)) => write!(f, "{}{unit}", self.0 / factor),
            None => write!(f, "{}B", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_with_and_without_unit() {
        for (text, bytes) in [
            ("0", 0),
            ("1500", 1500),
            ("7B", 7),
            ("64KiB", 65_536),
            ("1 mib", 1 << 20),
            ("10GiB", 10 << 30),
            ("2MB", 2_000_000),
        ] {
            assert_eq!(text.parse(), Ok(ByteSize(bytes)), "{text}");
        }
    }

    #[test]
    fn what_is_no_size_says_why() {
        for (text, error) in [
            ("", ByteSizeError::Number),
            ("MiB", ByteSizeError::Number),
            ("-1", ByteSizeError::Number),
            ("1.5GiB", ByteSizeError::Unit),
            ("5 parsecs", ByteSizeError::Unit),
            ("99999999999999999999", ByteSizeError::Overflow),
            ("99999999999TiB", ByteSizeError::Overflow),
        ] {
            assert_eq!(text.parse::<ByteSize>(), Err(error), "{text}");
        }
    }

    #[test]
    fn a_size_is_written_with_the_largest_unit_that_divides_it() {
        for (bytes, text) in
            [(0, "0B"), (1, "1B"), (1024, "1KiB"), (1500, "1500B"), (2_000_000, "2MB"), (256 << 20, "256MiB")]
        {
            assert_eq!(ByteSize(bytes).to_string(), text);
            assert_eq!(text.parse(), Ok(ByteSize(bytes)));
        }
    }
}
