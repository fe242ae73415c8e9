//! What a route promises: topics, partitions, order, limits, and what a reply means.

mod commands;
mod order;
mod records;
mod topics;
