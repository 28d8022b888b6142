//! A real dockerd of the tests' own, and what each test needs to use it beside the others.
//!
//! `MONOPOD_TEST_DOCKER=unix:///...` names one that is there already; otherwise
//! one is started, once for all tests of the process, and ends with it.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{LazyLock, OnceLock};
use std::time::{Duration, Instant};

use monopod::core::api::Fault;
use monopod::engine::{Docker, Engine, Identity, Made};
use monopod::spec::types::{Container, Healthcheck, Logging, Network, Role};
use serde_json::Value;

/// An image with busybox as all of its programs, whose command is to sleep.
pub const IMAGE: &str = "monopod-test/busybox:1";

/// How long something may take that should take no time, on a machine that is busy.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Starts dockerd, waits until its own input ends, which it does with the test process, and clears away.
const KEEPER: &str = r#"
dir=$1; shift
setpriv --pdeathsig TERM dockerd "$@" >"$dir/log" 2>&1 &
cat >/dev/null
kill -TERM $!; kill -CONT $!; wait $!
umount "$dir"/exec/netns/* 2>/dev/null
rm -rf --one-file-system "$dir"
"#;

/// An engine under test.
pub struct Daemon {
    /// Its socket.
    pub socket: PathBuf,
    keeper: Option<(Child, PathBuf)>,
}

impl Daemon {
    /// Starts a dockerd that nobody else uses.
    pub fn start(networks: bool) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let (pid, count) = (std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let dir = std::env::temp_dir().join(format!("monopod-engine-{pid}-{count}"));
        std::fs::create_dir_all(&dir).expect("the temporary folder can be written");
        let socket = dir.join("sock");
        let at = |name: &str| dir.join(name).display().to_string();
        let keeper = Command::new("sh")
            .args(["-c", KEEPER, "keeper"])
            .arg(&dir)
            .args(["--data-root", &at("data"), "--exec-root", &at("exec")])
            .args(["--pidfile", &at("pid"), "--bridge=none"])
            .args(["--host", &format!("unix://{}", socket.display())])
            .arg(format!("--iptables={networks}"))
            .arg(format!(
                "--default-address-pool=base=10.{}.0.0/16,size=24",
                128 + pid % 100
            ))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("there is a shell");
        let daemon = Self {
            socket,
            keeper: Some((keeper, dir)),
        };
        let log = daemon.keeper.as_ref().map(|(_, dir)| dir.join("log"));
        eventually("dockerd answers", || {
            let answer = daemon.command(&["version"]).output();
            let up = answer.is_ok_and(|answer| answer.status.success());
            let log = log
                .as_ref()
                .and_then(|log| std::fs::read_to_string(log).ok());
            let failed = log.filter(|log| log.contains("failed to start daemon"));
            assert_eq!(failed, None, "dockerd cannot be started here");
            up
        });
        daemon
    }

    /// The process ID of a dockerd that was started here.
    pub fn pid(&self) -> i32 {
        let (_, dir) = self.keeper.as_ref().expect("it was started here");
        let text = std::fs::read_to_string(dir.join("pid")).expect("it has written its pidfile");
        text.trim().parse().expect("a pidfile holds a number")
    }

    /// Docker's own command line, as a witness that shares no code with what is tested.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("docker");
        command
            .args(["--host", &format!("unix://{}", self.socket.display())])
            .args(args)
            .env("DOCKER_BUILDKIT", "0")
            .stdin(Stdio::null());
        command
    }

    /// What Docker's command line prints; it must succeed.
    pub fn docker(&self, args: &[&str]) -> String {
        let output = self.command(args).output().expect("docker is installed");
        assert!(
            output.status.success(),
            "docker {args:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// The engine's raw record of a thing; `None` if it is not there.
    pub fn inspect(&self, kind: &str, name: &str) -> Option<Value> {
        let output = self.command(&["inspect", "--type", kind, name]).output();
        let output = output.expect("docker is installed");
        let list: Value = serde_json::from_slice(&output.stdout).expect("inspect prints JSON");
        list.get(0).cloned()
    }

    /// Builds an image from scratch: busybox, then what the lines say, in a context with the given files.
    ///
    /// Images of other names share no layer with it: the engine would keep what one test damages or removes because
    /// another one has it.
    pub fn build(&self, tag: &str, lines: &str, files: &[(&str, &[u8])]) {
        let context = tempfile::tempdir().expect("the temporary folder can be written");
        let bin = context.path().join("bin");
        std::fs::create_dir(&bin).expect("it is new");
        std::fs::copy("/bin/busybox", bin.join("busybox")).expect("busybox-static is installed");
        for applet in ["sh", "sleep", "true", "echo", "cat", "httpd", "head"] {
            std::os::unix::fs::symlink("busybox", bin.join(applet)).expect("it is new");
        }
        for (name, content) in files {
            std::fs::write(context.path().join(name), content).expect("it is new");
        }
        // A layer holds its files' times to the second, so that two that are built at once may be the same but for this.
        let name = tag.rsplit_once(':').map_or(tag, |(name, _)| name);
        std::fs::write(bin.join("image"), name).expect("it is new");
        let text = format!("FROM scratch\nCOPY bin /bin\n{lines}\n");
        std::fs::write(context.path().join("Dockerfile"), text).expect("it is new");
        let path = context.path().display().to_string();
        eventually("it is built", || {
            let output = self
                .command(&["build", "--quiet", "--tag", tag, &path])
                .output()
                .expect("docker is installed");
            let error = String::from_utf8_lossy(&output.stderr);
            // Docker looks through all images for one that is the same, and some go while it does.
            let raced = error.contains("unable to find image");
            assert!(output.status.success() || raced, "{tag}: {error}");
            output.status.success()
        });
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some((keeper, _)) = &mut self.keeper {
            drop(keeper.stdin.take());
            // It has been told; that it cannot be waited for changes nothing.
            let _ = keeper.wait();
        }
    }
}

/// The engine that the tests share, with [`IMAGE`].
pub fn engine() -> &'static Daemon {
    static SHARED: OnceLock<Daemon> = OnceLock::new();
    SHARED.get_or_init(|| {
        let daemon = match std::env::var("MONOPOD_TEST_DOCKER") {
            Ok(address) => Daemon {
                socket: address
                    .strip_prefix("unix://")
                    .expect("MONOPOD_TEST_DOCKER is a unix:// address")
                    .into(),
                keeper: None,
            },
            Err(_) => Daemon::start(true),
        };
        daemon.build(IMAGE, r#"CMD ["sleep", "100000"]"#, &[]);
        daemon
    })
}

/// One test's own node and workload on the shared engine. All that carries its label goes with it.
pub struct Place {
    /// The engine.
    pub daemon: &'static Daemon,
    /// What is tested.
    pub docker: Docker,
    /// The node's root.
    pub node: String,
    /// The workload's name.
    pub workload: String,
}

impl Place {
    /// A place of this name.
    pub fn new(name: &str) -> Self {
        static RUN: LazyLock<String> = LazyLock::new(|| format!("{:x}", std::process::id()));
        let daemon = engine();
        Self {
            daemon,
            docker: Docker::connect(&daemon.socket),
            node: format!("/test/{}/{name}", *RUN),
            workload: format!("t{}-{name}", *RUN),
        }
    }

    /// What names its containers.
    pub fn identity(&self) -> Identity {
        Identity {
            node: self.node.clone(),
            workload: self.workload.clone(),
            hash: "hash-1".to_owned(),
            mounts: Vec::new(),
            journal: false,
        }
    }

    /// Makes a container from the image that its image's name stands for.
    pub async fn create(&self, container: &Container, identity: &Identity) -> Result<Made, Fault> {
        let image = self.docker.image(&container.image).await?;
        let id = image.map_or_else(|| container.image.clone(), |image| image.id);
        self.docker.create(container, &id, identity).await
    }

    /// Makes a container under this place's own identity; returns its ID.
    pub async fn made(&self, container: &Container) -> String {
        let made = self.create(container, &self.identity()).await;
        made.expect("it can be made").id
    }

    fn labelled(&self, kind: &[&str]) -> Vec<String> {
        let filter = format!("label=org.monopod.node={}", self.node);
        let mut args = kind.to_vec();
        args.extend(["--quiet", "--filter", &filter]);
        let output = self.daemon.command(&args).output();
        let text = output.map(|output| output.stdout).unwrap_or_default();
        let text = String::from_utf8_lossy(&text).into_owned();
        text.lines().map(str::to_owned).collect()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let kinds: [(&[&str], &[&str]); 3] = [
            (&["ps", "--all"], &["rm", "--force", "--volumes"]),
            (&["network", "ls"], &["network", "rm"]),
            (&["volume", "ls"], &["volume", "rm"]),
        ];
        for (list, remove) in kinds {
            for id in self.labelled(list) {
                let mut args = remove.to_vec();
                args.push(&id);
                // What cannot be cleared away goes with the engine.
                let _ = self.daemon.command(&args).output();
            }
        }
    }
}

/// A container with nothing said beyond its image and no network.
pub fn container(role: &str) -> Container {
    Container {
        name: Role::new(role),
        image: IMAGE.to_owned(),
        entrypoint: None,
        command: None,
        environment: BTreeMap::new(),
        ports: Vec::new(),
        volumes: Vec::new(),
        tmpfs: Vec::new(),
        devices: Vec::new(),
        network: Network::None,
        user: None,
        group_add: Vec::new(),
        working_dir: None,
        hostname: None,
        extra_hosts: Vec::new(),
        dns: Vec::new(),
        cap_add: Vec::new(),
        cap_drop: Vec::new(),
        privileged: false,
        read_only: false,
        security_opt: Vec::new(),
        init: false,
        shm_size: None,
        ulimits: BTreeMap::new(),
        sysctls: BTreeMap::new(),
        mem_limit: None,
        mem_reservation: None,
        nano_cpus: None,
        pids_limit: None,
        oom_score_adj: None,
        stop_signal: None,
        stop_grace_period: Duration::from_secs(10),
        labels: BTreeMap::new(),
        logging: Logging::Default,
        depends_on: BTreeMap::new(),
        runtime: None,
        gpus: None,
        healthcheck: Healthcheck::Image,
        secrets: BTreeMap::new(),
        files: BTreeMap::new(),
    }
}

/// Strings from literals.
pub fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(ToString::to_string).collect()
}

/// Waits until something holds.
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(
            start.elapsed() < PATIENCE,
            "it never came to be that {what}"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// As [`eventually`], for tests whose own runtime has work to do meanwhile.
pub async fn eventually_async(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(
            start.elapsed() < PATIENCE,
            "it never came to be that {what}"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// How many processes of this machine have a word in their command line.
pub fn processes_with(word: &str) -> usize {
    let all = std::fs::read_dir("/proc")
        .expect("there is a /proc")
        .flatten();
    all.filter(|process| {
        let line = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
        let mut words = line.split(|byte| *byte == 0);
        words.any(|one| one == word.as_bytes())
    })
    .count()
}

/// A tar archive in memory.
pub fn tar_of(members: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, content) in members {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(content.len() as u64);
        archive
            .append_data(&mut header, Path::new(name), content.as_slice())
            .expect("memory can be written");
    }
    let mut bytes = archive.into_inner().expect("memory can be written");
    bytes.flush().expect("memory can be written");
    bytes
}
