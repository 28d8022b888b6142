use std::sync::{Arc, Mutex};

use zbus::{ObjectPath, OwnedVariant, interface};

use super::super::testbus::{TestBus, run};
use super::*;

const SLICE: &str = "/org/freedesktop/systemd1/unit/monopod_2eslice";

/// What systemd was told, a line each.
type Told = Arc<Mutex<Vec<String>>>;

/// systemd, as far as it is given orders here.
struct Systemd {
    told: Told,
}

#[derive(Debug, zbus::DBusError)]
#[zbus(prefix = "org.freedesktop.systemd1")]
enum Answer {
    NoSuchUnit(String),
    TransactionIsDestructive(String),
}

impl Systemd {
    fn take(&self, line: String) {
        self.told.lock().unwrap().push(line);
    }

    fn job(&self, verb: &str, name: &str, mode: &str) -> Result<OwnedObjectPath, Answer> {
        self.take(format!("{verb} {name} {mode}"));
        match name {
            "gone.service" => Err(Answer::NoSuchUnit(
                "Unit gone.service not found.".to_owned(),
            )),
            "late.service" => Err(Answer::TransactionIsDestructive(
                "shutdown is under way".to_owned(),
            )),
            _ => Ok(path("/org/freedesktop/systemd1/job/1")),
        }
    }
}

#[interface(name = "org.freedesktop.systemd1.Manager")]
impl Systemd {
    #[allow(clippy::unused_self, reason = "as the bus calls it")]
    fn load_unit(&self, name: &str) -> Result<OwnedObjectPath, Answer> {
        match name {
            "monopod.slice" => Ok(path(SLICE)),
            _ => Err(Answer::NoSuchUnit(name.to_owned())),
        }
    }

    fn start_unit(&self, name: &str, mode: &str) -> Result<OwnedObjectPath, Answer> {
        self.job("start", name, mode)
    }

    fn restart_unit(&self, name: &str, mode: &str) -> Result<OwnedObjectPath, Answer> {
        self.job("restart", name, mode)
    }

    #[allow(clippy::needless_pass_by_value, reason = "as the bus calls it")]
    fn set_unit_properties(
        &self,
        name: &str,
        runtime: bool,
        properties: Vec<(String, OwnedVariant)>,
    ) {
        let set: Vec<_> = properties
            .iter()
            .map(|(key, value)| format!("{key}={}", u64::try_from(value).unwrap()))
            .collect();
        self.take(format!("set {name} {runtime} {}", set.join(" ")));
    }
}

/// A slice with drop-ins.
struct TheSlice(Vec<String>);

#[interface(name = "org.freedesktop.systemd1.Unit")]
impl TheSlice {
    #[zbus(property)]
    fn drop_in_paths(&self) -> Vec<String> {
        self.0.clone()
    }
}

fn path(path: &str) -> OwnedObjectPath {
    ObjectPath::try_from(path.to_owned()).unwrap().into()
}

/// A systemd on the bus, for as long as the connection is held.
async fn systemd(bus: &TestBus, drop_ins: &[&str]) -> (Connection, Told) {
    let told = Told::default();
    let systemd = Systemd {
        told: Arc::clone(&told),
    };
    let slice = TheSlice(drop_ins.iter().map(|&path| path.to_owned()).collect());
    let connection = connection::Builder::address(bus.address().as_str())
        .serve_at("/org/freedesktop/systemd1", systemd)
        .serve_at(SLICE, slice)
        .name("org.freedesktop.systemd1")
        .build()
        .await
        .unwrap();
    (connection, told)
}

#[test]
fn units_are_restarted_and_the_node_reboots() {
    let bus = TestBus::start();
    run(async {
        let (_systemd, told) = systemd(&bus, &[]).await;
        restart_unit(bus.address(), "docker.service").await.unwrap();
        reboot(bus.address()).await.unwrap();
        assert_eq!(
            *told.lock().unwrap(),
            [
                "restart docker.service replace",
                "start reboot.target replace-irreversibly"
            ]
        );
        let gone = restart_unit(bus.address(), "gone.service").await;
        assert!(
            matches!(&gone, Err(OrderError::NoSuchUnit(unit)) if unit == "gone.service"),
            "{gone:?}"
        );
        let late = restart_unit(bus.address(), "late.service").await;
        assert!(
            matches!(&late, Err(OrderError::Refused(why)) if why == "shutdown is under way"),
            "{late:?}"
        );
    });
}

#[test]
fn a_slice_gets_its_limits_and_loses_old_ones() {
    const OLD: &str = "/run/systemd/system.control/monopod.slice.d";
    let all = Slice {
        memory_max: Some(1 << 29),
        memory_high: Some(1 << 28),
        cpu_quota: Some(150),
        tasks_max: Some(300),
        io_weight: Some(50),
        cpu_weight: Some(200),
    };
    let one = Slice {
        tasks_max: Some(7),
        ..Slice::default()
    };
    let old: Vec<String> = ["MemoryMax", "CPUQuota", "TasksMax"]
        .map(|setting| format!("{OLD}/50-{setting}.conf"))
        .into();
    let old: Vec<&str> = old.iter().map(String::as_str).collect();
    let table: &[(&Slice, &[&str], &[&str])] = &[
        (&Slice::default(), &[], &[]),
        // An administrator's own.
        (
            &Slice::default(),
            &[
                "/etc/systemd/system/monopod.slice.d/50-MemoryMax.conf",
                "/etc/systemd/system.control/monopod.slice.d/50-TasksMax.conf",
            ],
            &[],
        ),
        (
            &all,
            &[],
            &[
                "set monopod.slice true MemoryMax=536870912 MemoryHigh=268435456 \
               CPUQuotaPerSecUSec=1500000 TasksMax=300 IOWeight=50 CPUWeight=200",
            ],
        ),
        (
            &one,
            &old,
            &["set monopod.slice true MemoryMax=18446744073709551615 \
               CPUQuotaPerSecUSec=18446744073709551615 TasksMax=7"],
        ),
    ];
    for (limits, drop_ins, expected) in table {
        let bus = TestBus::start();
        run(async {
            let (_systemd, told) = systemd(&bus, drop_ins).await;
            limit(bus.address(), "monopod.slice", limits).await.unwrap();
            assert_eq!(*told.lock().unwrap(), *expected, "{limits:?} {drop_ins:?}");
        });
    }
}

#[test]
fn without_systemd_an_order_fails() {
    let bus = TestBus::start();
    let nowhere = BusAddress::new("unix:path=/nonexistent/bus");
    run(async {
        for address in [bus.address(), &nowhere] {
            let result = reboot(address).await;
            assert!(
                matches!(result, Err(OrderError::Unreachable(..))),
                "{result:?}"
            );
        }
    });
}
