//! The command line from outside: arguments in, outputs and exit code out.
//!
//! `MONOPOD_BLESS=1` writes the golden files anew; read the difference before it is committed.

mod check;
mod support;
