//! The engine trait's Docker, against a real dockerd.
//!
//! Needs root, `dockerd`, `docker`, `setpriv` and a static `/bin/busybox`; no network.

mod create;
mod exec;
mod feed;
mod lifecycle;
mod scripted;
mod silence;
mod support;
