//! From text to a [`types::Workload`].

pub mod types;
