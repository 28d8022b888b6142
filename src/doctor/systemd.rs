//! What systemd and the bus say, read and never changed.

use std::time::Duration;

use tokio::time::timeout;
use zbus::{Connection, OwnedObjectPath, connection, proxy};

use crate::spec::host;
use crate::systemd::BusAddress;

/// How long the bus may take to greet us, and for each answer.
const ANSWER: Duration = Duration::from_secs(5);

/// The unit that all of this is about.
const UNIT: &str = "monopod.service";

#[proxy(
    interface = "org.freedesktop.systemd1.Manager",
    default_service = "org.freedesktop.systemd1",
    default_path = "/org/freedesktop/systemd1"
)]
trait Manager {
    #[zbus(no_autostart)]
    fn load_unit(&self, name: &str) -> zbus::Result<OwnedObjectPath>;
    #[zbus(property(emits_changed_signal = "false"), name = "RuntimeWatchdogUSec")]
    fn runtime_watchdog_usec(&self) -> zbus::Result<u64>;
}

#[proxy(
    interface = "org.freedesktop.systemd1.Unit",
    default_service = "org.freedesktop.systemd1"
)]
trait Unit {
    #[zbus(property(emits_changed_signal = "false"))]
    fn load_state(&self) -> zbus::Result<String>;
    #[zbus(property(emits_changed_signal = "false"))]
    fn active_state(&self) -> zbus::Result<String>;
    #[zbus(property(emits_changed_signal = "false"))]
    fn unit_file_state(&self) -> zbus::Result<String>;
    #[zbus(property(emits_changed_signal = "false"))]
    fn drop_in_paths(&self) -> zbus::Result<Vec<String>>;
    #[zbus(property(emits_changed_signal = "false"))]
    fn need_daemon_reload(&self) -> zbus::Result<bool>;
}

#[proxy(
    interface = "org.freedesktop.systemd1.Service",
    default_service = "org.freedesktop.systemd1"
)]
trait Service {
    #[zbus(property(emits_changed_signal = "false"))]
    fn result(&self) -> zbus::Result<String>;
    #[zbus(property(emits_changed_signal = "false"), name = "NRestarts")]
    fn n_restarts(&self) -> zbus::Result<u32>;
    #[zbus(property(emits_changed_signal = "false"), name = "WatchdogUSec")]
    fn watchdog_usec(&self) -> zbus::Result<u64>;
    #[zbus(property(emits_changed_signal = "false"))]
    fn user(&self) -> zbus::Result<String>;
    #[zbus(property(emits_changed_signal = "false"))]
    fn supplementary_groups(&self) -> zbus::Result<Vec<String>>;
}

#[proxy(
    interface = "org.freedesktop.timedate1",
    default_service = "org.freedesktop.timedate1",
    default_path = "/org/freedesktop/timedate1"
)]
trait Timedate {
    #[zbus(property(emits_changed_signal = "false"), name = "NTPSynchronized")]
    fn ntp_synchronized(&self) -> zbus::Result<bool>;
}

/// What systemd says of monopod's unit and of its own watchdog.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct UnitFacts {
    /// `loaded`, `not-found`, `masked`, `bad-setting`, `error`.
    pub load: String,
    /// `active`, `reloading`, `inactive`, `failed`, `activating`, `deactivating`.
    pub active: String,
    /// `enabled`, `disabled`, `static`, `masked`, ...; empty if systemd does not know.
    pub file: String,
    pub drop_ins: Vec<String>,
    /// The unit's file has changed since it was read.
    pub reload_needed: bool,
    /// How the last run ended: `success`, `watchdog`, `exit-code`, ...
    pub result: String,
    /// How often systemd restarted it by itself.
    pub restarts: u32,
    /// Its watchdog in microseconds; 0 or the largest number: none.
    pub watchdog: u64,
    /// The user that it runs as; empty: root.
    pub user: String,
    pub groups: Vec<String>,
    /// systemd's own towards the hardware, microseconds; 0: none.
    pub runtime_watchdog: u64,
}

/// A line to the system bus.
pub(super) struct Systemd(Connection);

impl Systemd {
    /// Connects to the bus; an error is a few words for people.
    pub async fn connect(address: &BusAddress) -> Result<Self, String> {
        let connect = connection::Builder::address(address.as_str())
            .method_timeout(ANSWER)
            .build();
        match timeout(ANSWER, connect).await {
            Ok(Ok(connection)) => Ok(Self(connection)),
            Ok(Err(zbus::Error::Connection(error, _) | zbus::Error::InputOutput(error))) => {
                Err(format!("no bus at {address}: {}", host::reason(&error)))
            }
            Ok(Err(error)) => Err(format!("no bus at {address}: {error}")),
            Err(_) => Err(format!("the bus at {address} does not answer")),
        }
    }

    /// The unit and the manager's watchdog.
    pub async fn unit(&self) -> Result<UnitFacts, String> {
        self.look().await.map_err(|error| error.to_string())
    }

    async fn look(&self) -> zbus::Result<UnitFacts> {
        let manager = ManagerProxy::new(&self.0).await?;
        let path = manager.load_unit(UNIT).await?;
        let unit = UnitProxy::builder(&self.0).path(&path).build().await?;
        let service = ServiceProxy::builder(&self.0).path(&path).build().await?;
        Ok(UnitFacts {
            load: unit.load_state().await?,
            active: unit.active_state().await?,
            file: unit.unit_file_state().await.unwrap_or_default(),
            drop_ins: unit.drop_in_paths().await?,
            reload_needed: unit.need_daemon_reload().await?,
            result: service.result().await?,
            restarts: service.n_restarts().await?,
            watchdog: service.watchdog_usec().await?,
            user: service.user().await?,
            groups: service.supplementary_groups().await?,
            runtime_watchdog: manager.runtime_watchdog_usec().await?,
        })
    }

    /// Whether the clock is synchronised, whoever does it; `None` if nobody says.
    pub async fn clock_synchronised(&self) -> Option<bool> {
        TimedateProxy::new(&self.0)
            .await
            .ok()?
            .ntp_synchronized()
            .await
            .ok()
    }

    /// The user behind a name on the bus; `None` if nobody has the name.
    pub async fn owner(&self, name: &str) -> Option<u32> {
        const BUS: &str = "org.freedesktop.DBus";
        let reply = self
            .0
            .call_method(
                Some(BUS),
                "/org/freedesktop/DBus",
                Some(BUS),
                "GetConnectionUnixUser",
                &name,
            )
            .await
            .ok()?;
        reply.body().deserialize().ok()
    }
}
