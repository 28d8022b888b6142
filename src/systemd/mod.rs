//! The seams to systemd: its notify socket, its journal, its jobs, and the bus that both sides speak on.
//!
//! Everything here reports or carries; it must never decide what becomes of a
//! container, and monopod works without any of it.

use std::fmt;

pub mod bus;
pub mod client;
pub mod jobs;
pub mod journal;
pub mod manager;
pub mod notify;
mod spanless;

/// Which message bus is spoken to, as D-Bus writes addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BusAddress(String);

impl BusAddress {
    /// A given bus, for example `unix:path=/run/dbus/system_bus_socket`.
    pub fn new(address: &str) -> Self {
        Self(address.to_owned())
    }

    /// The system's bus: at `$DBUS_SYSTEM_BUS_ADDRESS`, else at the usual place.
    pub fn system() -> Self {
        match std::env::var("DBUS_SYSTEM_BUS_ADDRESS") {
            Ok(address) if !address.is_empty() => Self(address),
            Ok(_) | Err(_) => Self::new("unix:path=/run/dbus/system_bus_socket"),
        }
    }

    /// The address itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for BusAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
pub(crate) mod testbus;

#[cfg(test)]
mod units;
