//! The decisions. Pure: no files, no sockets, no clock, no environment.

pub mod api;
pub mod ledger;
pub mod time;
