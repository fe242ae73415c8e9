//! Times as custom resources have them: RFC 3339, to the millisecond.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A point in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(Timestamp);

// === impl Moment ===

impl Moment {
    /// So many milliseconds after 1970 began; the nearest that can be written where that cannot.
    pub fn from_millis(millis: i64) -> Self {
        let bound = if millis < 0 { Timestamp::MIN } else { Timestamp::MAX };
        Self(Timestamp::from_millisecond(millis).unwrap_or(bound))
    }

    /// This machine's time now.
    pub fn now() -> Self {
        Self::from_millis(Timestamp::now().as_millisecond())
    }

    /// How long after `earlier` this is; nothing where it is not after it.
    pub fn since(self, earlier: Self) -> Duration {
        let millis = self.0.as_millisecond().saturating_sub(earlier.0.as_millisecond());
        Duration::from_millis(u64::try_from(millis).unwrap_or_default())
    }

    /// This much later.
    #[must_use]
    pub fn after(self, duration: Duration) -> Self {
        let millis = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        Self::from_millis(self.0.as_millisecond().saturating_add(millis))
    }
}

impl From<Timestamp> for Moment {
    fn from(at: Timestamp) -> Self {
        Self::from_millis(at.as_millisecond())
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for Moment {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Moment {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        text.parse().map(Self).map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for Moment {
    fn schema_name() -> Cow<'static, str> {
        "Moment".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": "date-time" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_written_and_read_to_the_millisecond() {
        let moment = Moment::from_millis(1_700_000_000_123);
        let text = serde_json::to_string(&moment).unwrap();
        assert_eq!(text, r#""2023-11-14T22:13:20.123Z""#);
        assert_eq!(serde_json::from_str::<Moment>(&text).unwrap(), moment);
        assert_eq!(moment.after(Duration::from_secs(2)).since(moment), Duration::from_secs(2));
        assert_eq!(moment.since(moment.after(Duration::from_secs(2))), Duration::ZERO);
    }
}
