//! `monopod rescue` and `monopod slice`, with a systemd that only writes down what it is told.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;

use tempfile::TempDir;
use tokio::sync::oneshot;
use zbus::{OwnedObjectPath, OwnedVariant, connection, interface};

use crate::bus::Bus;

const SLICE: &str = "/org/freedesktop/systemd1/unit/monopod_2eslice";

/// What systemd was told, a line each.
type Told = Arc<Mutex<Vec<String>>>;

struct Manager(Told);

impl Manager {
    fn take(&self, line: String) -> OwnedObjectPath {
        self.0.lock().expect("nobody panics with it").push(line);
        OwnedObjectPath::try_from(SLICE).expect("a path")
    }
}

#[interface(name = "org.freedesktop.systemd1.Manager")]
impl Manager {
    fn restart_unit(&self, name: &str, mode: &str) -> OwnedObjectPath {
        self.take(format!("restart {name} {mode}"))
    }

    fn start_unit(&self, name: &str, mode: &str) -> OwnedObjectPath {
        self.take(format!("start {name} {mode}"))
    }

    fn load_unit(&self, name: &str) -> OwnedObjectPath {
        self.take(format!("load {name}"))
    }

    fn set_unit_properties(&self, name: &str, runtime: bool, set: Vec<(String, OwnedVariant)>) {
        let keys: Vec<_> = set.into_iter().map(|(key, _)| key).collect();
        self.take(format!("set {name} {runtime} {keys:?}"));
    }
}

/// What `Environment=` and `EnvironmentFile=` say.
type Environment = Arc<Mutex<(Vec<String>, Vec<(String, bool)>)>>;

/// monopod.service, with what is in its environment.
struct Service(Environment);

#[interface(name = "org.freedesktop.systemd1.Service")]
impl Service {
    #[zbus(property)]
    fn environment(&self) -> Vec<String> {
        self.0.lock().expect("nobody panics with it").0.clone()
    }

    #[zbus(property)]
    fn environment_files(&self) -> Vec<(String, bool)> {
        self.0.lock().expect("nobody panics with it").1.clone()
    }
}

struct Slice;

#[interface(name = "org.freedesktop.systemd1.Unit")]
impl Slice {
    #[allow(clippy::unused_self, reason = "as the bus calls it")]
    #[zbus(property)]
    fn drop_in_paths(&self) -> Vec<String> {
        Vec::new()
    }
}

/// A node with a systemd.
struct Node {
    root: TempDir,
    bus: Bus,
    told: Told,
    environment: Environment,
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Node {
    fn new() -> Self {
        let bus = Bus::start();
        let (address, told) = (bus.address(), Told::default());
        let manager = Manager(Arc::clone(&told));
        let environment = Environment::default();
        let service = Service(Arc::clone(&environment));
        let (end, ended) = oneshot::channel::<()>();
        let (up, is_up) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            runtime.block_on(async move {
                let _connection = connection::Builder::address(address.as_str())
                    .serve_at("/org/freedesktop/systemd1", manager)
                    .serve_at(SLICE, Slice)
                    .serve_at(SLICE, service)
                    .name("org.freedesktop.systemd1")
                    .build()
                    .await
                    .expect("the bus lets it in");
                up.send(()).expect("the test waits");
                let _ = ended.await;
            });
        });
        is_up.recv().expect("systemd comes up");
        let root = TempDir::new().expect("a temporary folder");
        fs::create_dir_all(root.path().join("run/monopod/rescue")).expect("a folder");
        fs::create_dir_all(root.path().join("etc/monopod")).expect("a folder");
        Self {
            root,
            bus,
            told,
            environment,
            end: Some(end),
            thread: Some(thread),
        }
    }

    fn path(&self, path: &str) -> std::path::PathBuf {
        self.root.path().join(path)
    }

    fn write(&self, path: &str, text: &str) {
        fs::write(self.path(path), text).expect("a file");
    }

    fn run(&self, verb: &str) -> Output {
        Command::new(env!("CARGO_BIN_EXE_monopod"))
            .arg("--root")
            .arg(self.root.path())
            .arg(verb)
            .env("DBUS_SYSTEM_BUS_ADDRESS", self.bus.address())
            .env_remove("DOCKER_HOST")
            .output()
            .expect("the binary runs")
    }

    fn told(&self) -> Vec<String> {
        std::mem::take(&mut *self.told.lock().expect("nobody panics with it"))
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn empty(folder: &Path) -> bool {
    fs::read_dir(folder).expect("a folder").next().is_none()
}

/// The requests, node.toml, what systemd is told, the exit code, and a part of what is said.
type Row<'a> = (&'a [&'a str], &'a str, &'a [&'a str], i32, &'a str);

#[test]
fn a_rescue_does_what_the_node_file_allows() {
    const ENGINE: &str = "restart docker.service replace";
    const ASKED: &str = "load monopod.service";
    const REBOOT: &str = "start reboot.target replace-irreversibly";
    const ALLOWED: &str = "[escalation]\nreboot = true\n";
    let node = Node::new();
    let table: [Row; 10] = [
        (&[], "", &[], 0, ""),
        (
            &["engine"],
            "[escalation]\nengine_restarts = 0",
            &[],
            4,
            "node.toml does not allow it ([escalation] engine_restarts = 0)",
        ),
        (
            &["engine"],
            "",
            &[ASKED, ENGINE],
            0,
            "restarting docker.service: mute since noon",
        ),
        (
            &["engine"],
            "[engine]\nsocket = \"unix:///run/podman/podman.sock\"",
            &["restart podman.service replace"],
            0,
            "",
        ),
        (
            &["engine"],
            "[engine]\nsocket = \"unix:///run/x.sock\"\nunit = \"x.service\"",
            &["restart x.service replace"],
            0,
            "",
        ),
        (
            &["engine"],
            "[engine]\nsocket = \"unix:///run/x.sock\"",
            &[],
            3,
            "name the unit in node.toml",
        ),
        (&["reboot"], "", &[], 4, "node.toml does not allow it"),
        (
            &["reboot"],
            ALLOWED,
            &[REBOOT],
            0,
            "rebooting the node: mute since noon",
        ),
        (
            &["engine", "reboot"],
            ALLOWED,
            &[ASKED, ENGINE, REBOOT],
            0,
            "",
        ),
        (
            &["engine", "reboot"],
            "[escalation]\nreboot = 1",
            &[],
            3,
            "reboot was asked for",
        ),
    ];
    for (wishes, file, told, code, said) in table {
        node.write("etc/monopod/node.toml", file);
        for wish in wishes {
            let path = format!("run/monopod/rescue/{wish}");
            node.write(&path, "mute since noon\nand a second line\n");
        }
        let output = node.run("rescue");
        assert_eq!(node.told(), told, "{wishes:?} {file}: {output:?}");
        assert_eq!(output.status.code(), Some(code), "{wishes:?} {file}");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(stderr.contains(said), "{wishes:?} {file}: {stderr}");
        assert!(!stderr.contains("second line"), "{stderr}");
        assert!(empty(&node.path("run/monopod/rescue")), "{wishes:?} {file}");
    }
}

/// The daemon may speak to another engine than root would.
#[test]
fn a_rescue_restarts_the_daemons_engine_and_no_other() {
    /// The daemon's variables and files of them, node.toml, what systemd is told, the exit code, and
    /// a part of what is said.
    type Row<'a> = (
        &'a [&'a str],
        &'a [&'a str],
        &'a str,
        &'a [&'a str],
        i32,
        &'a str,
    );
    const NONE: [&str; 0] = [];
    let node = Node::new();
    let table: [Row; 6] = [
        (
            &["X=1", "DOCKER_HOST=unix:///run/podman/podman.sock"],
            &NONE,
            "",
            &["load monopod.service", "restart podman.service replace"],
            0,
            "",
        ),
        (
            &["DOCKER_HOST=unix:///run/x.sock", "DOCKER_HOST="],
            &NONE,
            "",
            &["load monopod.service", "restart docker.service replace"],
            0,
            "",
        ),
        (
            &["DOCKER_HOST=unix:///run/x.sock"],
            &NONE,
            "",
            &["load monopod.service"],
            3,
            "listens on /run/x.sock; name the unit in node.toml: [engine] unit",
        ),
        (
            &["DOCKER_HOST=tcp://far:2375"],
            &NONE,
            "",
            &["load monopod.service"],
            3,
            "an engine of its own node",
        ),
        (
            &[],
            &["/etc/default/monopod"],
            "",
            &["load monopod.service"],
            3,
            "name the unit in node.toml: [engine] unit",
        ),
        (
            &["DOCKER_HOST=unix:///run/x.sock"],
            &["/etc/default/monopod"],
            "[engine]\nunit = \"x.service\"",
            &["restart x.service replace"],
            0,
            "",
        ),
    ];
    for (variables, files, file, told, code, said) in table {
        let case = format!("{variables:?} {files:?} {file}");
        let variables = variables.iter().map(|&text| text.to_owned()).collect();
        let files = files.iter().map(|&path| (path.to_owned(), true)).collect();
        *node.environment.lock().expect("nobody panics with it") = (variables, files);
        node.write("etc/monopod/node.toml", file);
        node.write("run/monopod/rescue/engine", "mute");
        let output = node.run("rescue");
        assert_eq!(node.told(), told, "{case}: {output:?}");
        assert_eq!(output.status.code(), Some(code), "{case}");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(stderr.contains(said), "{case}: {stderr}");
    }
}

/// The folder is a stranger's if the daemon was taken over: root must not be led out of it.
#[test]
fn a_rescue_follows_no_links() {
    let node = Node::new();
    node.write("secret", "the root's own word");
    symlink(node.path("secret"), node.path("run/monopod/rescue/engine")).expect("a link");
    let output = node.run("rescue");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(!stderr.contains("own word"), "{stderr}");
    let told = ["load monopod.service", "restart docker.service replace"];
    assert_eq!(node.told(), told);
    assert!(empty(&node.path("run/monopod/rescue")));
    assert!(node.path("secret").exists());

    fs::remove_dir(node.path("run/monopod/rescue")).expect("it is empty");
    fs::create_dir(node.path("elsewhere")).expect("a folder");
    node.write("elsewhere/engine", "x");
    symlink(node.path("elsewhere"), node.path("run/monopod/rescue")).expect("a link");
    let output = node.run("rescue");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(node.path("elsewhere/engine").exists());
    assert_eq!(node.told(), [""; 0]);
}

#[test]
fn the_slice_gets_what_the_node_file_says() {
    let node = Node::new();
    let table = [
        ("", &["load monopod.slice"][..], 0),
        (
            "[slice]\nmemory_max = \"256m\"\ncpu_quota = \"50%\"\n",
            &[
                "load monopod.slice",
                "set monopod.slice true [\"MemoryMax\", \"CPUQuotaPerSecUSec\"]",
            ],
            0,
        ),
        ("[slice]\nmemory_max = 1\n", &[], 3),
    ];
    for (file, told, code) in table {
        node.write("etc/monopod/node.toml", file);
        let output = node.run("slice");
        assert_eq!(node.told(), told, "{file}");
        assert_eq!(output.status.code(), Some(code), "{file}: {output:?}");
    }
}
