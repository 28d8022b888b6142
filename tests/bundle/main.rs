//! Bundles: made and taken, signed by minisign and for it, hostile, interrupted.

#[allow(dead_code, reason = "the archives' own tests use the rest")]
#[path = "../archives/build.rs"]
mod build;
mod forge;
mod golden;
mod hostile;
mod incoming;
mod inspect;
mod interrupted;
mod minisign;
mod node;
mod preload;
mod release;
mod round_trip;
mod trust;
