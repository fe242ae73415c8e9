//! A wall clock that was wrong while records went to the spool.

use crate::bed::Kafka;
use crate::lone::{Dead, KafkaIs, Lone};

const DAY: i64 = 86_400;

/// Kafka takes no record that is more than an hour ahead of its own clock. A time within that hour is kept.
#[test]
fn records_spooled_a_day_ahead_of_time_come_in_order_with_the_time_of_their_sending() -> Result<(), Dead> {
    const EACH: usize = 5;
    let ahead = |_: &std::path::Path, shim: &crate::shim::Shim| shim.set_clock(DAY);
    let mut lone = Lone::spawn(Kafka::shared(), KafkaIs::Away, "acknowledge = \"spool\"", "", ahead);
    for _ in 0..EACH {
        assert!(lone.push(100)?);
    }
    lone.end()?;
    lone.shim.set_clock(1800);
    lone.restart(KafkaIs::Away);
    for _ in 0..EACH {
        assert!(lone.push(100)?);
    }
    lone.end()?;
    lone.shim.set_clock(0);
    lone.restart(KafkaIs::There);
    assert!(lone.push(100)?);
    lone.drain()?;
    let records = lone.consumed();
    let restamped = records.iter().filter(|record| record.headers.iter().any(|(name, _)| name == "tidegate-time"));
    assert_eq!((records.len(), restamped.count()), (2 * EACH + 1, EACH), "{records:?}");
    let (wrong, kept, right) = (records[0].timestamp, records[EACH].timestamp, records[2 * EACH].timestamp);
    assert!((right - wrong).abs() <= 60_000, "{wrong} {right}");
    assert!((1_700_000..1_800_000).contains(&(kept - right)), "{kept} {right}");
    lone.end()?;
    assert_eq!(lone.verify().problems, [""; 0]);
    Ok(())
}
