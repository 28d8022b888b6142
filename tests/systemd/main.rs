//! The package in a booted Debian 13, used as a person would: with dpkg, systemctl, busctl, journalctl.
//!
//! `tests/run systemd` runs these stories. They need root, `systemd-nspawn` and `mmdebstrap`, and they
//! never touch this machine's own systemd, engine or network.

mod boot;
mod bus;
mod client;
mod desk;
mod image;
mod install;
mod journal;
mod kills;
mod ladder;
mod loops;
mod machine;
mod node;
mod reload;
mod removal;
mod rescue;
mod stick;
mod stopping;
mod update_disk;
mod updates;
mod upgrade;
