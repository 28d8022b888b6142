//! monopod keeps one containerised workload alive on one node.
//!
//! The decisions are in [`core`], which is pure; everything else does as it is told.

pub mod cli;
pub mod core;
pub mod engine;
pub mod exit;
pub mod image;
pub mod paths;
pub mod pidfd;
pub mod probe;
pub mod spec;
pub mod systemd;
