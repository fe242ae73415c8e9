//! The rows of [`super::table`], by theme.

use super::table::Spec;

mod cluster;
mod connection;
mod keyspace;
mod live;
mod operations;
pub(super) mod records;
mod refused;
mod scripts;
mod server;
mod store;

/// All tables of commands; those of sub-commands hang on their containers.
pub(super) static TABLES: [&[Spec]; 13] = [
    &records::RECORDS,
    &connection::CONNECTION,
    &server::SERVER,
    &keyspace::KEYSPACE,
    &operations::OPERATIONS,
    &cluster::CLUSTERING,
    &cluster::SENTINELS,
    &refused::READS,
    &refused::STORES,
    &live::SUBSCRIPTIONS,
    &scripts::SCRIPTS,
    &store::STORED,
    &refused::ADMINISTRATION,
];
