//! The package in a booted Debian 13, used as a person would: with dpkg, systemctl, busctl, journalctl.
//!
//! `tests/run systemd` runs these stories. They need root, `systemd-nspawn` and `mmdebstrap`, and they
//! never touch this machine's own systemd, engine or network.

mod boot;
mod client;
mod image;
mod install;
mod kills;
mod machine;
mod node;
mod removal;
mod stopping;
