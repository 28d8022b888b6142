//! Sticks, as images on loop devices, read by `monopod import-medium` as the unit runs it: in a mount
//! namespace of its own. Needs root.

#[allow(dead_code, reason = "the archives' own tests use the rest")]
#[path = "../archives/build.rs"]
mod build;
#[allow(dead_code, reason = "the bundles' own tests use the rest")]
#[path = "../bundle/forge.rs"]
mod forge;
#[allow(dead_code, reason = "the bundles' own tests use the rest")]
#[path = "../bundle/node.rs"]
mod node;
mod reading;
mod rights;
mod stick;
