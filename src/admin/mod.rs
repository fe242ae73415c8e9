//! Health, metrics, debug dumps and the web page, over HTTP.

pub mod config;
