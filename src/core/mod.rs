//! The decisions. Pure: no files, no sockets, no clock, no environment.
//!
//! [`node::Node`] is the whole of it from outside: events go in, actions come out, and [`api`] has both.

pub mod api;
pub mod backoff;
mod container;
pub mod health;
pub mod ladder;
pub mod ledger;
mod next;
pub mod node;
pub mod reboots;
mod sight;
pub mod supervisor;
pub mod time;
pub mod update;
