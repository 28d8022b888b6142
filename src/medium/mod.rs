//! A stick: what it is, how it is mounted, which of its files are looked at, and how a person without
//! a terminal is told of it.
//!
//! Root's half uses this before any right is given up, so it parses next to nothing: a few fixed bytes
//! of a superblock, and what udev found out. Nothing here reads a file of a stick's, and nothing may
//! write to one but [`result`].

pub mod led;
pub mod list;
pub mod mount;
pub mod probe;
pub mod result;
pub mod udev;
