//! Asks systemd what a SIGTERM is for: a restart, which leaves the containers running, or a stop.
//!
//! It must never order anything of systemd: it only looks.

use std::io;
use std::time::Duration;

use tokio::time::timeout;
use zbus::{connection, fdo};

use super::BusAddress;
use super::manager::{ManagerProxy, ServiceProxy};
use crate::core::api::Parting;

/// How long the bus and systemd may take, all together: the workload's grace waits for it.
const ANSWER: Duration = Duration::from_secs(2);

/// What the daemon's end is for, once SIGTERM came.
///
/// - systemd runs us and has a `restart` job for us: [`Parting::Leave`], the next daemon adopts.
/// - It has a `stop` job for us, as `systemctl stop` and every shutdown make: [`Parting::Stop`].
/// - It runs us and has no job for us, or one that ends in our running: [`Parting::Leave`]. Then
///   the signal is an accident of the daemon's alone (someone's `kill`, a start that took too
///   long), `Restart=always` brings the next daemon, and the workload need not notice.
/// - systemd does not run us, or there is no systemd: [`Parting::Stop`]. A daemon in a terminal
///   has no successor, and containers that nobody supervises are not what Ctrl-C asks for.
/// - There is a bus, but no answer within 2 s: as systemd's service (`listened_to`, see
///   [`super::notify::listened_to`]) [`Parting::Leave`], since running containers can still be
///   stopped by hand and stopped ones are an outage; otherwise [`Parting::Stop`].
pub async fn parting(address: &BusAddress, listened_to: bool) -> Parting {
    let answer = timeout(ANSWER, ask(address)).await;
    decide(&answer.unwrap_or(Finding::Silence), listened_to)
}

/// What was found out.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Finding {
    /// No bus, or no systemd on it.
    NoSystemd,
    /// systemd is there, and we are not the main process of a service.
    Foreground,
    /// We are a service's main process; the type of the job that systemd has for it.
    Service(Option<String>),
    /// Something is there and does not answer as it should.
    Silence,
}

fn decide(finding: &Finding, listened_to: bool) -> Parting {
    match finding {
        Finding::Service(Some(job)) if job == "stop" => Parting::Stop,
        Finding::Service(_) => Parting::Leave,
        Finding::Silence if listened_to => Parting::Leave,
        Finding::Silence | Finding::NoSystemd | Finding::Foreground => Parting::Stop,
    }
}

async fn ask(address: &BusAddress) -> Finding {
    look(address, std::process::id())
        .await
        .unwrap_or_else(|error| match error {
            zbus::Error::Connection(error, _) if nobody_there(&error) => Finding::NoSystemd,
            zbus::Error::FDO(error)
                if matches!(
                    *error,
                    fdo::Error::ServiceUnknown(_) | fdo::Error::NameHasNoOwner(_)
                ) =>
            {
                Finding::NoSystemd
            }
            _ => Finding::Silence,
        })
}

/// Whether a connection attempt's error says that nobody listens there.
fn nobody_there(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
    )
}

async fn look(address: &BusAddress, me: u32) -> zbus::Result<Finding> {
    let connection = connection::Builder::address(address.as_str())
        .build()
        .await?;
    let manager = ManagerProxy::new(&connection).await?;
    let unit = match manager.get_unit_by_pid(me).await {
        Ok(unit) => unit,
        Err(zbus::Error::MethodError(name, ..))
            if name == "org.freedesktop.systemd1.NoUnitForPID" =>
        {
            return Ok(Finding::Foreground);
        }
        Err(error) => return Err(error),
    };
    let service = ServiceProxy::builder(&connection)
        .path(&unit)
        .build()
        .await?;
    match service.main_pid().await {
        Ok(main) if main == me => {}
        Ok(_) => return Ok(Finding::Foreground),
        // A session's scope has no main process at all.
        Err(zbus::Error::FDO(error))
            if matches!(
                *error,
                fdo::Error::UnknownInterface(_)
                    | fdo::Error::UnknownProperty(_)
                    | fdo::Error::InvalidArgs(_)
            ) =>
        {
            return Ok(Finding::Foreground);
        }
        Err(error) => return Err(error),
    }
    let jobs = manager.list_jobs().await?;
    let job = jobs.into_iter().find(|job| job.5 == unit);
    Ok(Finding::Service(job.map(|job| job.2)))
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use tokio::net::UnixListener;
    use zbus::{ObjectPath, OwnedObjectPath, interface};

    use super::super::manager::Job;
    use super::super::testbus::{TestBus, run};
    use super::*;

    #[test]
    fn decisions() {
        let service = |job: &str| Finding::Service(Some(job.to_owned()));
        let table = [
            (service("restart"), true, Parting::Leave),
            (service("try-restart"), true, Parting::Leave),
            (service("start"), true, Parting::Leave),
            (service("stop"), true, Parting::Stop),
            (service("stop"), false, Parting::Stop),
            (Finding::Service(None), true, Parting::Leave),
            (Finding::Service(None), false, Parting::Leave),
            (Finding::Foreground, true, Parting::Stop),
            (Finding::Foreground, false, Parting::Stop),
            (Finding::NoSystemd, true, Parting::Stop),
            (Finding::NoSystemd, false, Parting::Stop),
            (Finding::Silence, true, Parting::Leave),
            (Finding::Silence, false, Parting::Stop),
        ];
        for (finding, listened_to, parting) in table {
            assert_eq!(decide(&finding, listened_to), parting, "{finding:?}");
        }
    }

    const OURS: &str = "/org/freedesktop/systemd1/unit/monopod_2eservice";
    const OTHER: &str = "/org/freedesktop/systemd1/unit/other_2eservice";

    /// systemd, as far as it is asked here.
    struct Systemd {
        /// What our process belongs to; `None` if to no unit.
        unit: Option<&'static str>,
        /// (unit, type) of each job.
        jobs: Vec<(&'static str, &'static str)>,
        /// Never answers.
        hangs: bool,
    }

    fn path(path: &str) -> OwnedObjectPath {
        ObjectPath::try_from(path.to_owned()).unwrap().into()
    }

    #[derive(Debug, zbus::DBusError)]
    #[zbus(prefix = "org.freedesktop.systemd1")]
    enum Answer {
        NoUnitForPID(String),
    }

    #[interface(name = "org.freedesktop.systemd1.Manager")]
    impl Systemd {
        #[zbus(name = "GetUnitByPID")]
        async fn get_unit_by_pid(&self, pid: u32) -> Result<OwnedObjectPath, Answer> {
            if self.hangs {
                return pending().await;
            }
            assert_eq!(pid, std::process::id());
            self.unit
                .map(path)
                .ok_or_else(|| Answer::NoUnitForPID("none".to_owned()))
        }

        fn list_jobs(&self) -> Vec<Job> {
            let jobs = self.jobs.iter().zip(1..);
            jobs.map(|((unit, kind), number)| {
                (
                    number,
                    "x.service".to_owned(),
                    (*kind).to_owned(),
                    "running".to_owned(),
                    path("/org/freedesktop/systemd1/job/1"),
                    path(unit),
                )
            })
            .collect()
        }
    }

    /// A service unit.
    struct Unit(u32);

    #[interface(name = "org.freedesktop.systemd1.Service")]
    impl Unit {
        #[zbus(property, name = "MainPID")]
        fn main_pid(&self) -> u32 {
            self.0
        }
    }

    /// A unit that is no service.
    struct Scope;

    #[interface(name = "org.freedesktop.systemd1.Scope")]
    impl Scope {}

    #[test]
    fn systemd_is_asked() {
        let me = std::process::id();
        let us = |job: Option<&str>| Finding::Service(job.map(str::to_owned));
        let table = [
            (
                Some(OURS),
                Some(me),
                vec![(OURS, "restart")],
                us(Some("restart")),
            ),
            (
                Some(OURS),
                Some(me),
                vec![(OTHER, "restart"), (OURS, "stop"), (OTHER, "start")],
                us(Some("stop")),
            ),
            (Some(OURS), Some(me), vec![(OTHER, "stop")], us(None)),
            (Some(OURS), Some(me), vec![], us(None)),
            (
                Some(OURS),
                Some(me + 1),
                vec![(OURS, "stop")],
                Finding::Foreground,
            ),
            (Some(OURS), None, vec![(OURS, "stop")], Finding::Foreground),
            (None, None, vec![(OURS, "stop")], Finding::Foreground),
        ];
        let bus = TestBus::start();
        for (unit, main, jobs, expected) in table {
            run(async {
                let shown = format!("{unit:?} {main:?} {jobs:?}");
                let systemd = Systemd {
                    unit,
                    jobs,
                    hangs: false,
                };
                let builder = connection::Builder::address(bus.address().as_str())
                    .serve_at("/org/freedesktop/systemd1", systemd);
                let builder = match main {
                    Some(pid) => builder.serve_at(OURS, Unit(pid)),
                    None => builder.serve_at(OURS, Scope),
                };
                let _systemd = builder
                    .name("org.freedesktop.systemd1")
                    .build()
                    .await
                    .unwrap();
                assert_eq!(ask(bus.address()).await, expected, "{shown}");
            });
        }
    }

    #[test]
    fn without_systemd_a_sigterm_means_stop() {
        let dir = tempfile::tempdir().unwrap();
        let nowhere = BusAddress::new(&format!("unix:path={}/bus", dir.path().display()));
        let bus = TestBus::start();
        run(async {
            assert_eq!(ask(&nowhere).await, Finding::NoSystemd);
            assert_eq!(ask(bus.address()).await, Finding::NoSystemd);
            assert_eq!(parting(&nowhere, true).await, Parting::Stop);
        });
    }

    #[test]
    fn a_systemd_that_hangs_is_not_waited_for() {
        let bus = TestBus::start();
        let dir = tempfile::tempdir().unwrap();
        let mute = dir.path().join("bus");
        run(async {
            let systemd = Systemd {
                unit: None,
                jobs: vec![],
                hangs: true,
            };
            let _systemd = connection::Builder::address(bus.address().as_str())
                .serve_at("/org/freedesktop/systemd1", systemd)
                .name("org.freedesktop.systemd1")
                .build()
                .await
                .unwrap();
            assert_eq!(parting(bus.address(), true).await, Parting::Leave);
            // A bus that lets nobody in.
            let _listener = UnixListener::bind(&mute).unwrap();
            let address = BusAddress::new(&format!("unix:path={}", mute.display()));
            assert_eq!(parting(&address, false).await, Parting::Stop);
        });
    }
}
