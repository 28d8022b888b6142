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
    #[zbus(property(emits_changed_signal = "false"))]
    fn capability_bounding_set(&self) -> zbus::Result<u64>;
    #[zbus(property(emits_changed_signal = "false"))]
    fn ambient_capabilities(&self) -> zbus::Result<u64>;
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
    /// The capabilities that it may have at most, a bit each; all of root's are of these.
    pub bounding: u64,
    /// Those that it has although it is not root.
    pub ambient: u64,
    /// systemd's own towards the hardware, microseconds; 0: none.
    pub runtime_watchdog: u64,
}

impl UnitFacts {
    /// The user's name.
    pub fn user(&self) -> &str {
        if self.user.is_empty() {
            "root"
        } else {
            &self.user
        }
    }
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
            bounding: service.capability_bounding_set().await?,
            ambient: service.ambient_capabilities().await?,
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

#[cfg(test)]
#[allow(clippy::unused_self, reason = "the bus calls methods")]
mod tests {
    use zbus::{ObjectPath, interface};

    use super::*;
    use crate::systemd::testbus::{TestBus, run};

    const PATH: &str = "/org/freedesktop/systemd1/unit/monopod_2eservice";

    struct FakeManager;

    #[interface(name = "org.freedesktop.systemd1.Manager")]
    impl FakeManager {
        fn load_unit(&self, name: &str) -> OwnedObjectPath {
            assert_eq!(name, "monopod.service");
            ObjectPath::from_static_str_unchecked(PATH).into()
        }

        #[zbus(property, name = "RuntimeWatchdogUSec")]
        fn runtime_watchdog_usec(&self) -> u64 {
            30
        }
    }

    struct FakeUnit;

    #[interface(name = "org.freedesktop.systemd1.Unit")]
    impl FakeUnit {
        #[zbus(property)]
        fn load_state(&self) -> &'static str {
            "loaded"
        }
        #[zbus(property)]
        fn active_state(&self) -> &'static str {
            "active"
        }
        #[zbus(property)]
        fn unit_file_state(&self) -> &'static str {
            "enabled"
        }
        #[zbus(property)]
        fn drop_in_paths(&self) -> Vec<&'static str> {
            vec!["/etc/x.conf"]
        }
        #[zbus(property)]
        fn need_daemon_reload(&self) -> bool {
            true
        }
    }

    struct FakeService;

    #[interface(name = "org.freedesktop.systemd1.Service")]
    impl FakeService {
        #[zbus(property)]
        fn result(&self) -> &'static str {
            "watchdog"
        }
        #[zbus(property, name = "NRestarts")]
        fn n_restarts(&self) -> u32 {
            2
        }
        #[zbus(property, name = "WatchdogUSec")]
        fn watchdog_usec(&self) -> u64 {
            60
        }
        #[zbus(property)]
        fn user(&self) -> &'static str {
            "monopod"
        }
        #[zbus(property)]
        fn supplementary_groups(&self) -> Vec<&'static str> {
            vec!["docker"]
        }
        #[zbus(property)]
        fn capability_bounding_set(&self) -> u64 {
            6
        }
        #[zbus(property)]
        fn ambient_capabilities(&self) -> u64 {
            2
        }
    }

    #[test]
    fn what_systemd_says_is_read() {
        let bus = TestBus::start();
        let expected = UnitFacts {
            load: "loaded".to_owned(),
            active: "active".to_owned(),
            file: "enabled".to_owned(),
            drop_ins: vec!["/etc/x.conf".to_owned()],
            reload_needed: true,
            result: "watchdog".to_owned(),
            restarts: 2,
            watchdog: 60,
            user: "monopod".to_owned(),
            groups: vec!["docker".to_owned()],
            bounding: 6,
            ambient: 2,
            runtime_watchdog: 30,
        };
        run(async {
            let _systemd = connection::Builder::address(bus.address().as_str())
                .serve_at("/org/freedesktop/systemd1", FakeManager)
                .serve_at(PATH, FakeUnit)
                .serve_at(PATH, FakeService)
                .name("org.freedesktop.systemd1")
                .build()
                .await
                .unwrap();
            let systemd = Systemd::connect(bus.address()).await.unwrap();
            assert_eq!(systemd.unit().await, Ok(expected));
            // Nobody keeps the time here, and nobody has the daemon's name.
            assert_eq!(systemd.clock_synchronised().await, None);
            assert_eq!(systemd.owner("org.monopod.Supervisor1").await, None);
            let me = nix::unistd::geteuid().as_raw();
            assert_eq!(systemd.owner("org.freedesktop.systemd1").await, Some(me));
        });
    }
}
