//! The engine trait's Docker, and the whole program, against a real dockerd.
//!
//! Needs root, `dockerd`, `docker`, `dbus-daemon`, `setpriv` and a static `/bin/busybox`; no network.

mod create;
mod daemon;
mod doctor;
mod exec;
mod feed;
mod lifecycle;
mod logs;
mod node;
mod scripted;
mod silence;
mod support;
mod volumes;
