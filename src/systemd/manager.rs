//! systemd's own interfaces on the bus, as far as monopod uses them, and the few orders that it gives.
//!
//! The daemon only asks; the orders are for the verbs that systemd runs as
//! root. None of it is ever tried twice.

use std::time::Duration;

use tokio::time::timeout;
use zbus::{Connection, OwnedObjectPath, Variant, connection, fdo, proxy};

use super::BusAddress;
use crate::spec::types::Slice;

/// How long the bus and systemd may take, all together.
const ANSWER: Duration = Duration::from_secs(10);

/// No limit, and no weight of its own, in each property of a slice that is set here.
const NONE: u64 = u64::MAX;

/// Number, unit, type, state, the job's object, the unit's object.
pub(super) type Job = (
    u32,
    String,
    String,
    String,
    OwnedObjectPath,
    OwnedObjectPath,
);

#[proxy(
    interface = "org.freedesktop.systemd1.Manager",
    default_service = "org.freedesktop.systemd1",
    default_path = "/org/freedesktop/systemd1"
)]
pub(super) trait Manager {
    #[zbus(name = "GetUnitByPID", no_autostart)]
    fn get_unit_by_pid(&self, pid: u32) -> zbus::Result<OwnedObjectPath>;
    #[zbus(no_autostart)]
    fn load_unit(&self, name: &str) -> zbus::Result<OwnedObjectPath>;
    #[zbus(no_autostart)]
    fn list_jobs(&self) -> zbus::Result<Vec<Job>>;
    #[zbus(no_autostart)]
    fn start_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;
    #[zbus(no_autostart)]
    fn restart_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;
    #[zbus(no_autostart)]
    fn set_unit_properties(
        &self,
        name: &str,
        runtime: bool,
        properties: &[(&str, Variant<'_>)],
    ) -> zbus::Result<()>;
}

#[proxy(
    interface = "org.freedesktop.systemd1.Unit",
    default_service = "org.freedesktop.systemd1"
)]
trait Unit {
    #[zbus(property(emits_changed_signal = "false"))]
    fn drop_in_paths(&self) -> zbus::Result<Vec<String>>;
}

#[proxy(
    interface = "org.freedesktop.systemd1.Service",
    default_service = "org.freedesktop.systemd1"
)]
pub(super) trait Service {
    #[zbus(property(emits_changed_signal = "false"), name = "MainPID")]
    fn main_pid(&self) -> zbus::Result<u32>;
    #[zbus(property(emits_changed_signal = "false"))]
    fn environment(&self) -> zbus::Result<Vec<String>>;
    #[zbus(property(emits_changed_signal = "false"))]
    fn environment_files(&self) -> zbus::Result<Vec<(String, bool)>>;
}

/// What a service's unit says of its environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Environment {
    /// `NAME=VALUE` each; a later one counts.
    pub variables: Vec<String>,
    /// Files with more, which systemd reads at the start.
    pub files: Vec<String>,
}

/// Asks what environment a service's unit gives it: what `Environment=` and `EnvironmentFile=` say. A
/// unit that is not there says nothing.
///
/// # Errors
///
/// [`OrderError`].
pub async fn environment(address: &BusAddress, unit: &str) -> Result<Environment, OrderError> {
    order(address, unit, async |connection| {
        let manager = ManagerProxy::new(&connection).await?;
        let service = ServiceProxy::builder(&connection)
            .path(manager.load_unit(unit).await?)
            .build()
            .await?;
        let files = service.environment_files().await?;
        Ok(Environment {
            variables: service.environment().await?,
            files: files.into_iter().map(|(path, _)| path).collect(),
        })
    })
    .await
}

/// Why an order was not taken.
#[derive(Debug, thiserror::Error)]
pub enum OrderError {
    /// No bus, or no systemd on it.
    #[error("systemd cannot be reached on the bus at {0}: {1}")]
    Unreachable(BusAddress, String),
    /// It has no such unit.
    #[error("systemd has no unit {0}")]
    NoSuchUnit(String),
    /// It has one, and does not do it.
    #[error("systemd refuses: {0}")]
    Refused(String),
}

/// Has a unit stopped and started again; returns once systemd has taken the order.
///
/// # Errors
///
/// [`OrderError`]; nothing has been done then.
pub async fn restart_unit(address: &BusAddress, unit: &str) -> Result<(), OrderError> {
    order(address, unit, async |connection| {
        let manager = ManagerProxy::new(&connection).await?;
        manager.restart_unit(unit, "replace").await.map(|_| ())
    })
    .await
}

/// Has the node shut down and boot again; returns once systemd has taken the order.
///
/// # Errors
///
/// [`OrderError`]; nothing has been done then.
pub async fn reboot(address: &BusAddress) -> Result<(), OrderError> {
    const TARGET: &str = "reboot.target";
    order(address, TARGET, async |connection| {
        let manager = ManagerProxy::new(&connection).await?;
        manager
            .start_unit(TARGET, "replace-irreversibly")
            .await
            .map(|_| ())
    })
    .await
}

/// Sets a slice's limits until the next boot, and takes back those that an earlier call has set and
/// that are not in `limits` any more. What an administrator's own drop-ins set is left alone.
///
/// # Errors
///
/// [`OrderError`]; nothing has been changed then.
pub async fn limit(address: &BusAddress, slice: &str, limits: &Slice) -> Result<(), OrderError> {
    order(address, slice, async |connection| {
        let manager = ManagerProxy::new(&connection).await?;
        let unit = UnitProxy::builder(&connection)
            .path(manager.load_unit(slice).await?)
            .build()
            .await?;
        let properties = properties(limits, &unit.drop_in_paths().await?);
        if properties.is_empty() {
            return Ok(());
        }
        manager.set_unit_properties(slice, true, &properties).await
    })
    .await
}

/// What to set, given the drop-ins that are in force.
fn properties(limits: &Slice, drop_ins: &[String]) -> Vec<(&'static str, Variant<'static>)> {
    // 1 % of a core is 10 ms of CPU time a second.
    let quota = limits.cpu_quota.map(|percent| u64::from(percent) * 10_000);
    let number = |number: Option<u32>| number.map(u64::from);
    // The property, its setting's name in a unit file, its value.
    let table = [
        ("MemoryMax", "MemoryMax", limits.memory_max),
        ("MemoryHigh", "MemoryHigh", limits.memory_high),
        ("CPUQuotaPerSecUSec", "CPUQuota", quota),
        ("TasksMax", "TasksMax", number(limits.tasks_max)),
        ("IOWeight", "IOWeight", number(limits.io_weight)),
        ("CPUWeight", "CPUWeight", number(limits.cpu_weight)),
    ];
    table
        .into_iter()
        .filter_map(|(property, setting, value)| {
            // Where systemd keeps what was set on the bus until the next boot.
            let set = drop_ins.iter().any(|path| {
                path.contains("/run/systemd/system.control/")
                    && path.ends_with(&format!("/50-{setting}.conf"))
            });
            let value = value.or(set.then_some(NONE))?;
            Some((property, Variant::from(value)))
        })
        .collect()
}

/// Connects, does the work, and says what went wrong, all within [`ANSWER`].
async fn order<T>(
    address: &BusAddress,
    unit: &str,
    work: impl AsyncFnOnce(Connection) -> zbus::Result<T>,
) -> Result<T, OrderError> {
    let done = timeout(ANSWER, async {
        let connection = connection::Builder::address(address.as_str())
            .build()
            .await?;
        work(connection).await
    });
    let unreachable = |text: String| OrderError::Unreachable(address.clone(), text);
    match done.await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(zbus::Error::MethodError(name, text, _))) => {
            if name == "org.freedesktop.systemd1.NoSuchUnit" {
                Err(OrderError::NoSuchUnit(unit.to_owned()))
            } else {
                Err(OrderError::Refused(
                    text.unwrap_or_else(|| name.to_string()),
                ))
            }
        }
        Ok(Err(zbus::Error::FDO(error))) => match *error {
            fdo::Error::ServiceUnknown(_) | fdo::Error::NameHasNoOwner(_) => {
                Err(unreachable("systemd is not there".to_owned()))
            }
            error => Err(OrderError::Refused(error.to_string())),
        },
        Ok(Err(error)) => Err(unreachable(error.to_string())),
        Err(_) => Err(unreachable(format!("no answer within {ANSWER:?}"))),
    }
}

#[cfg(test)]
mod tests;
