//! Cargo's build script: how the release binary is linked. It makes nothing.

use std::env::var;

fn main() {
    println!("cargo::rerun-if-changed=packaging/link.ld");
    let is = |name: &str, value: &str| var(name).is_ok_and(|found| found == value);
    // Other profiles unwind, and musl's start-up objects need their tables.
    if is("PROFILE", "release")
        && is("CARGO_CFG_TARGET_OS", "linux")
        && is("CARGO_CFG_TARGET_ENV", "gnu")
    {
        let folder = var("CARGO_MANIFEST_DIR").unwrap_or_default();
        println!("cargo::rustc-link-arg-bins=-Wl,-T,{folder}/packaging/link.ld");
    }
}
