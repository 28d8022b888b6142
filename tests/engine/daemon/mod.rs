//! The whole program: daemon and verbs, against a real engine and a real bus.

mod crash;
mod cuts;
mod desk;
mod ending;
mod gates;
mod images;
mod import;
mod incoming;
mod ladder;
mod life;
mod pair;
mod probes;
mod rebuild;
mod saved;
mod systemd;
mod trust;
mod updates;
