//! The spool: records on this machine's disk until Kafka has them.
//!
//! ```text
//! Writer (one a worker) ──chunks──▶ commit thread ──segments──▶ Replay ──▶ whoever delivers
//!                       ◀─outcomes─                ◀─done───────
//! ```
//!
//! A [`Writer`] encodes records into *frames*, each of one [`Lane`] (a topic, and a partition where it is known). What one
//! turn of a worker appended is a *chunk*. One thread writes all chunks that have come with one write and one `fdatasync`,
//! and only then tells the writers that they are durable. [`Replay`] reads the frames back, in order within a lane, and is
//! told which records Kafka has. A second thread, the keeper, writes the checkpoint and deletes segments that are done.
//!
//! # On disk
//!
//! ```text
//! DIR/lock                      locked while a process uses DIR; holds its id
//! DIR/format                    "tidegate-spool 1\n"
//! DIR/segments/SEQUENCE.seg     sixteen hexadecimal digits; never reused, always growing
//! DIR/segments/SEQUENCE.spare   the file of a segment that is done, to be written again as another one
//! DIR/checkpoint                what is done; replaced by renaming `checkpoint.new`
//! DIR/reach                     how far replay has ever sent; written in place
//! DIR/quarantine/               damaged bytes, copied out before they are passed over; bounded
//! DIR/probe                     written and removed to find out whether the disk takes data again
//! ```
//!
//! All numbers are little-endian, `varint` is LEB128, and every checksum is CRC-32C. A **segment** is its header, twice, and frames
//! without gaps:
//!
//! ```text
//! header   magic "TIDESEG1" · sequence u64 · marker u64 · previous sequence u64 · previous end u64 · zeros to 60 · crc u32
//! frame    marker u64 · header crc u32 · body crc u32 · body length u32 · record count u32 · first timestamp i64
//!          · partition i32 (-1: none) · kind u8 (1 records, 2 guard) · topic length u8 · 0 u16 · topic · body
//! body     first id u128 · records
//! record   tag u8 (bits 0–1: sticky, hash, key; bit 2: headers) · id − previous id varint
//!          · timestamp − previous timestamp zigzag varint · [hash u32 | key length varint · key]
//!          · [headers length varint · headers] · value length varint · value
//! ```
//!
//! A frame's header checksum covers the segment's sequence, the frame's offset and the header; the marker is a random
//! number of the segment. So no bytes inside a record are ever taken for a frame: they do not know the marker, and a copy
//! of a frame fits its own place only.
//!
//! # What holds at every moment
//!
//! 1. A chunk is reported durable only after `fdatasync` of its segment, whose header and directory entry were synced
//!    before its first frame. A segment's header is never written again.
//! 2. A write or sync that fails poisons the segment: it is never written again. What it lost is written once more, to a
//!    new segment whose header says where the poisoned one ends; if that fails too, the chunk fails.
//! 3. A frame is handed out only while it is durable, in the order of its lane, and never while a guard of its lane is
//!    unresolved. Where a topic's partitions were unknown for a time, its lanes are handed out in order among each other.
//! 4. A lane's cursor in the checkpoint is a position before which everything of the lane is done. It may lag behind, by
//!    any amount; it never leads. No new segment ever takes a sequence that a checkpoint has seen.
//! 5. A segment is deleted, or its file written again, only when every record in it is done. Before a file is written
//!    again it has durably lost its old name, and it gets its new one when its new header is durable.
//! 6. A damaged frame costs itself: reading goes on at the next good one. Damage never stops a start. What cannot be opened
//!    for want of descriptors or memory is not damaged: a start is refused then, and replay tries again.
//! 7. Of no frame behind the one that `reach` names was anything sent by replay. A mark that is missing or torn says
//!    nothing: then every record counts as sent. Nor does one that the disk did not take: what goes all the same is
//!    counted at once as what a restart may deliver again.
//! 8. Memory is bounded by lanes × segments, by what is in flight, and by what waits for the disk; never by the backlog.

mod checkpoint;
mod commit;
mod config;
mod damage;
mod desk;
mod disk;
mod engine;
mod family;
mod frame;
mod guards;
mod keeper;
mod lane;
mod lane_state;
mod ledger;
mod lock;
mod marks;
mod metrics;
mod open;
mod position;
mod quarantine;
mod quota;
mod reach;
mod record;
mod recover;
mod replay;
mod replay_frame;
mod report;
mod scan;
mod segment;
mod spares;
mod survey;
mod writer;

pub use config::{SpoolConfig, Tuning};
pub use disk::{Disk, DiskFile, RealDisk};
pub use engine::Spool;
pub use lane::Lane;
pub use marks::Delivered;
pub use open::OpenError;
pub use position::FrameId;
pub use record::Record;
pub use replay::{Progress, ReadError, Replay};
pub use replay_frame::{ReplayFrame, ReplayRecord};
pub use report::{LaneReport, SpoolReport};
pub use survey::{FrameSurvey, SegmentSurvey, Survey};
pub use writer::{Full, Guard, Sequence, Unwritten, WriteError, Writer};

#[cfg(test)]
mod tests;
