//! The test bed checks itself: a bed that is broken must not look like a product that is.

mod clients;
mod kafka;
mod processes;
mod proxy;

use std::time::Duration;

const SOON: Duration = Duration::from_secs(10);
