//! The command line from outside: arguments in, outputs and exit code out.
//!
//! `MONOPOD_BLESS=1` writes the golden files anew; read the difference before it is committed.

mod bus;
mod check;
mod daemon;
mod doctor;
mod help;
mod images;
mod import;
mod logs;
mod privileged;
mod release;
mod status;
mod support;

#[allow(
    dead_code,
    unused_imports,
    reason = "the archives' own tests use the rest"
)]
#[path = "../archives/build.rs"]
mod build;
