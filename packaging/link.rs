//! Cargo's build script: how the release binary is linked. It makes nothing.

use std::env::var;

fn main() {
    println!("cargo::rerun-if-changed=packaging/link.ld");
    let is = |name: &str, value: &str| var(name).is_ok_and(|found| found == value);
    // Other profiles unwind.
    if !is("PROFILE", "release") || !is("CARGO_CFG_TARGET_OS", "linux") {
        return;
    }
    let folder = var("CARGO_MANIFEST_DIR").unwrap_or_default();
    println!("cargo::rustc-link-arg-bins=-Wl,-T,{folder}/packaging/link.ld");
    // 24 bytes for each address in the data become little more than one bit. Of the C libraries
    // musl's start-up code, which is linked in, knows the form for sure.
    if is("CARGO_CFG_TARGET_ENV", "musl") {
        println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}
