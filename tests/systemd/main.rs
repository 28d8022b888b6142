//! The package in a booted Debian 13, used as a person would: with dpkg, systemctl, busctl, journalctl.
//!
//! `tests/run systemd` runs these stories. They need root, `systemd-nspawn` and `mmdebstrap`, and they
//! never touch this machine's own systemd, engine or network.

mod boot;
#[allow(dead_code, reason = "the archives' own tests use the rest")]
#[path = "../archives/build.rs"]
mod build;
mod bus;
mod client;
#[allow(dead_code, reason = "the bundles' own tests use the rest")]
#[path = "../bundle/forge.rs"]
mod forge;
mod image;
mod install;
mod journal;
mod kills;
mod ladder;
mod machine;
mod node;
mod reload;
mod removal;
mod rescue;
mod stick;
mod stopping;
mod upgrade;
