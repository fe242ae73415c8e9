//! The rows of [`super::table`], by theme.

use super::table::Spec;

mod cluster;
mod connection;
mod keyspace;
mod operations;
pub(super) mod records;
mod refused;
mod server;

/// All tables of commands; those of sub-commands hang on their containers.
pub(super) static TABLES: [&[Spec]; 11] = [
    &records::RECORDS,
    &connection::CONNECTION,
    &server::SERVER,
    &keyspace::KEYSPACE,
    &operations::OPERATIONS,
    &cluster::CLUSTERING,
    &refused::READS,
    &refused::STORES,
    &refused::SUBSCRIPTIONS,
    &refused::SCRIPTS,
    &refused::ADMINISTRATION,
];
