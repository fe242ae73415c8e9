//! Endpoints: where pools come from, and the one snapshot in which they are published.
//!
//! ```text
//! source (kubernetes | file | hub | eureka) → SourceEvent → registry (shards, guards, joins; pure) → Snapshot, swapped in whole
//! ```
//!
//! A source says all of a pool whenever something of it changes, and all of its pools after a list. The registry keeps
//! each source's word as a shard: a fault of the source makes its shard stale and empties nothing. What readers see is
//! one immutable [`Snapshot`], replaced in one step.

mod clock;
mod coalesce;
pub mod config;
pub mod eureka;
pub mod file;
mod guard;
pub mod hosts;
pub mod hub;
mod interner;
pub mod join;
mod journal;
pub mod kubernetes;
pub mod matched;
mod metrics;
mod persist;
pub mod pool;
mod registry;
mod runtime;
mod shard;
mod snapshot;
mod update;

pub use clock::Jump;
pub use guard::Held;
pub use registry::{Kept, Published, Registry};
pub use runtime::{Endpoints, EndpointsError, Listener};
pub use shard::{Shard, Status};
pub use snapshot::{Changes, MAX_REMOVED, ShardState, Snapshot};
pub use update::{JoinUpdate, Origin, Origins, SourceEvent, Update, Watched};
