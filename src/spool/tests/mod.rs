//! The engine as a whole, step by step on disks that tests control.

mod crash;
mod damage;
mod family;
mod faults;
mod kit;
mod lanes;
mod model;
mod shortage;
mod spares;
