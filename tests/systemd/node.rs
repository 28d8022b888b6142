//! A machine with the package, the app's image and its workload file, as a technician leaves one behind.

use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::image;
use crate::machine::{Machine, eventually};

/// The app's reference.
pub const IMAGE: &str = "monopod.test/app:1";

/// What the node's owner wrote: short delays, so that a story of failures does not take all day.
pub const NODE: &str = "\
[escalation]
restarts = 1
recreates = 1
withholds = 1
backoff_base = \"100ms\"
backoff_max = \"500ms\"
stable = \"1h\"
";

/// The workload: one app, asked each second.
pub const WORKLOAD: &str = r#"
name = "gateway"

[containers.app]
image = "monopod.test/app:1"
ports = ["8080:80"]
volumes = ["/srv/state:/state"]
stop_grace_period = "20s"
healthcheck = { http = ":80/cgi-bin/healthz", interval = "500ms", timeout = "5s", retries = 2 }
"#;

/// What all machines of this process are made from.
pub struct Material {
    /// The Debian tree.
    pub tree: PathBuf,
    /// The package, and the same with a higher version.
    pub package: PathBuf,
    /// See `package`.
    pub next: PathBuf,
    /// The app's image archive.
    pub archive: PathBuf,
}

/// The material, made once.
pub fn material() -> &'static Material {
    static MADE: OnceLock<Material> = OnceLock::new();
    MADE.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("systemd");
        std::fs::create_dir_all(&folder).expect("the build's folder can be written");
        let tree = printed(Command::new("tests/lib/tree").args(["systemd", "trixie"]));
        let packages = if let Some(folder) = std::env::var_os("MONOPOD_TEST_PACKAGES") {
            folder.into()
        } else {
            for revision in ["1", "2"] {
                printed(
                    Command::new("packaging/build")
                        .args(["--binary", env!("CARGO_BIN_EXE_monopod")])
                        .args(["--revision", revision, "--output"])
                        .arg(folder.join(revision)),
                );
            }
            folder.clone()
        };
        let archive = folder.join("app.tar");
        image::write(&archive, IMAGE, "one\n");
        Material {
            tree: tree.into(),
            package: deb(&packages.join("1")),
            next: deb(&packages.join("2")),
            archive,
        }
    })
}

/// The one .deb in a folder.
fn deb(folder: &Path) -> PathBuf {
    std::fs::read_dir(folder)
        .expect("the packages are there")
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
        .expect("a .deb is among them")
}

fn printed(command: &mut Command) -> String {
    let output = command.output().expect("the tests run in the checkout");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// A machine that has been set up.
pub struct Node(Machine);

impl Deref for Node {
    type Target = Machine;

    fn deref(&self) -> &Machine {
        &self.0
    }
}

impl DerefMut for Node {
    fn deref_mut(&mut self) -> &mut Machine {
        &mut self.0
    }
}

/// A container as the engine has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Running {
    /// Its ID.
    pub id: String,
    /// Its process, in the machine.
    pub pid: String,
    /// How often the app has been started since it got its volume.
    pub starts: usize,
}

impl Node {
    /// A booted machine with the packages and the archive in /root; nothing is installed.
    pub fn bare() -> Self {
        let material = material();
        Self(Machine::boot(
            &material.tree,
            &[
                ("/root/monopod.deb", &material.package),
                ("/root/monopod-next.deb", &material.next),
                ("/root/app.tar", &material.archive),
            ],
        ))
    }

    /// With the package installed, and no workload yet.
    pub fn installed() -> Self {
        let node = Self::bare();
        node.ok("dpkg --install /root/monopod.deb");
        node
    }

    /// With the image imported and the files in their places; not started.
    pub fn prepared(workload: &str, owner: &str) -> Self {
        let node = Self::installed();
        node.ok("mkdir -p /srv/state");
        node.ok("monopod import /root/app.tar");
        // Its appearance is what another story is about.
        node.ok("systemctl stop monopod.path 2>/dev/null || true");
        node.configure("node.toml", owner);
        node.configure("workload.toml", workload);
        node
    }

    /// With the workload up and healthy.
    pub fn healthy() -> Self {
        Self::healthy_with(WORKLOAD, NODE)
    }

    /// With this workload up and healthy.
    pub fn healthy_with(workload: &str, owner: &str) -> Self {
        let node = Self::prepared(workload, owner);
        node.ok("systemctl start monopod.service");
        node.ok("monopod status");
        node
    }

    /// Writes a file of /etc/monopod for the daemon to read.
    pub fn configure(&self, name: &str, text: &str) {
        self.write(&format!("/etc/monopod/{name}"), text);
    }

    /// Adds settings to a unit, as `systemctl edit` does.
    pub fn drop_in(&self, unit: &str, text: &str) {
        self.write(&format!("/etc/systemd/system/{unit}.d/test.conf"), text);
        self.ok("systemctl daemon-reload");
    }

    /// Makes the app answer 500, or well again.
    pub fn sick(&self, sick: bool) {
        if sick {
            self.write("/srv/state/sick", "");
        } else {
            self.ok("rm -f /srv/state/sick");
        }
    }

    /// What became of the app, a line each.
    pub fn app_log(&self) -> Vec<String> {
        let text = self.read("/srv/state/log");
        text.lines().map(str::to_owned).collect()
    }

    /// A container of the workload, which has to run.
    pub fn running(&self, role: &str) -> Running {
        let text = self.ok(&format!(
            "docker inspect --type=container --format '{{{{.Id}}}} {{{{.State.Pid}}}}' gateway-{role}"
        ));
        let (id, pid) = text.split_once(' ').expect("two words");
        assert_ne!(pid, "0", "{role} does not run");
        let log = self.app_log();
        Running {
            id: id.to_owned(),
            pid: pid.to_owned(),
            starts: log.iter().filter(|line| *line == "started").count(),
        }
    }

    /// Waits until the daemon says that all is healthy.
    pub fn await_healthy(&self) {
        eventually("the workload is healthy", || {
            self.sh("monopod status").code == 0
        });
    }
}
