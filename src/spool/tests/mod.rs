//! The engine as a whole, step by step on disks that tests control.

mod family;
mod kit;
mod lanes;
