//! Copies of volumes, as root's half makes them and puts them back.
//!
//! The volumes are of an engine that only says where they are, so that a test can have them on any
//! file system; one test has a real engine. The requests are written as the daemon writes them.

mod full;
mod hostile;
mod kills;
mod real;
mod tree;
mod whole;

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};

use monopod::core::update::ReleaseId;
use monopod::volumes::{Answer, Deed, Request, SnapshotVolume, State, VolumeName};
use serde_json::{Value, json};
use tempfile::TempDir;

/// The release before which all copies are made.
const RELEASE: &str = "0123456789ab";

/// The engine's name of the volume that most tests have.
const VOLUME: &str = "w-data";

/// More than any volume of these tests has.
const LIMIT: u64 = 1 << 30;

/// What the engine says of its volumes, and of the containers that run.
#[derive(Debug, Default)]
struct Said {
    data_root: PathBuf,
    volumes: Vec<Value>,
    containers: Value,
}

/// A node, and the engine that it asks.
struct Bench {
    root: PathBuf,
    /// The folder of the engine's volumes.
    home: PathBuf,
    said: Arc<Mutex<Said>>,
    _folder: TempDir,
}

impl Bench {
    /// Both on the same file system as the temporary folder.
    fn new() -> Self {
        let folder = TempDir::new().expect("a temporary folder");
        let (state, data) = (folder.path().join("state"), folder.path().join("data"));
        Self::on(folder, &state, &data)
    }

    /// With the state below `state` and the engine's data below `data`.
    fn on(folder: TempDir, state: &Path, data: &Path) -> Self {
        let root = folder.path().join("root");
        for path in ["etc/monopod", "run/monopod/rescue", "var/lib"] {
            fs::create_dir_all(root.join(path)).expect("a folder");
        }
        for path in [state, data] {
            fs::create_dir_all(path).expect("a folder");
        }
        std::os::unix::fs::symlink(state, root.join("var/lib/monopod")).expect("a link");
        let data_root = fs::canonicalize(data).expect("it is there");
        let home = data_root.join("volumes");
        fs::create_dir_all(&home).expect("a folder");
        let socket = folder.path().join("sock");
        let said = Arc::new(Mutex::new(Said {
            data_root,
            volumes: Vec::new(),
            containers: json!([]),
        }));
        serve(&socket, Arc::clone(&said));
        let node = format!("[engine]\nsocket = \"unix://{}\"\n", socket.display());
        fs::write(root.join("etc/monopod/node.toml"), node).expect("a file");
        let root = fs::canonicalize(root).expect("it is there");
        Self {
            root,
            home,
            said,
            _folder: folder,
        }
    }

    /// What the engine says of a volume of this node's.
    fn record(&self, name: &str) -> Value {
        json!({
            "Name": name,
            "Driver": "local",
            "Mountpoint": self.data(name),
            "Labels": { "org.monopod.node": self.root },
            "Scope": "local",
            "Options": null,
        })
    }

    /// Has the engine say this of one volume, and nothing of others.
    fn says(&self, volume: Value) {
        self.said.lock().expect("nobody panics with it").volumes = vec![volume];
    }

    /// Has the engine say that these containers run.
    fn runs(&self, containers: Value) {
        self.said.lock().expect("nobody panics with it").containers = containers;
    }

    /// Makes an empty volume that the engine knows.
    fn volume(&self, name: &str) -> PathBuf {
        let data = self.data(name);
        fs::create_dir_all(&data).expect("a folder");
        let record = self.record(name);
        let mut said = self.said.lock().expect("nobody panics with it");
        said.volumes.push(record);
        data
    }

    fn data(&self, name: &str) -> PathBuf {
        self.home.join(name).join("_data")
    }

    /// The copies; a release's if it is given.
    fn snapshots(&self) -> PathBuf {
        self.root.join("var/lib/monopod/snapshots")
    }

    fn copy_of(&self, name: &str) -> PathBuf {
        self.snapshots().join(RELEASE).join(name)
    }

    fn request_file(&self, deed: Deed) -> PathBuf {
        self.root.join("run/monopod/rescue").join(deed.file())
    }

    /// Puts a request where root's half looks.
    fn put(&self, deed: Deed, volumes: &[(&str, u64)], number: u64) {
        let request = Request {
            number,
            release: release(),
            volumes: volumes
                .iter()
                .map(|&(name, limit)| SnapshotVolume {
                    name: VolumeName::new(name).expect("a good name"),
                    limit,
                })
                .collect(),
        };
        let text = serde_json::to_string(&request).expect("text");
        fs::write(self.request_file(deed), text).expect("the folder can be written");
    }

    /// Root's half, as its unit starts it.
    fn half(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_monopod"));
        command
            .arg("--root")
            .arg(&self.root)
            .arg("volumes")
            .env_remove("DOCKER_HOST")
            .stdin(Stdio::null());
        command
    }

    fn start_half(&self) -> Child {
        let mut half = self.half();
        half.stdout(Stdio::null()).stderr(Stdio::null());
        half.spawn().expect("the program is there")
    }

    fn run_half(&self) -> Output {
        self.half().output().expect("the program is there")
    }

    /// Asks, has it done, and returns the answer.
    fn ask(&self, deed: Deed, volumes: &[(&str, u64)]) -> Result<(), String> {
        self.put(deed, volumes, 7);
        let output = self.run_half();
        assert!(!self.request_file(deed).exists(), "it is taken: {output:?}");
        let folder = self.root.join("run/monopod/rescue-answers");
        let text = fs::read(folder.join(deed.answer(&release())))
            .unwrap_or_else(|error| panic!("no answer ({error}): {output:?}"));
        let answer: Answer = serde_json::from_slice(&text).expect("an answer");
        assert_eq!(answer.number, 7, "{output:?}");
        let done = match answer.state {
            State::Ok => Ok(()),
            State::Error(text) => Err(text),
            State::Moved(_) => panic!("it has ended without a last word: {output:?}"),
        };
        assert!(
            output.status.success(),
            "an answer is what it is for: {output:?}"
        );
        done
    }

    /// The names in the folder of the copies.
    fn kept(&self) -> Vec<String> {
        names(&self.snapshots())
    }
}

fn release() -> ReleaseId {
    ReleaseId::new(RELEASE).expect("an id")
}

/// The names in a folder, in order.
fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(folder)
        .expect("a folder")
        .map(|entry| entry.expect("an entry").file_name())
        .map(|name| name.to_string_lossy().into_owned())
        .collect();
    names.sort_unstable();
    names
}

/// Answers as an engine does, for as long as the process lives.
fn serve(socket: &Path, said: Arc<Mutex<Said>>) {
    let listener = UnixListener::bind(socket).expect("the path is free");
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { continue };
            let mut head = Vec::new();
            let mut piece = [0; 1024];
            while !head.windows(4).any(|end| end == b"\r\n\r\n") {
                match stream.read(&mut piece) {
                    Ok(0) | Err(_) => break,
                    Ok(read) => head.extend_from_slice(&piece[..read]),
                }
            }
            let head = String::from_utf8_lossy(&head).into_owned();
            let path = head.split([' ', '?']).nth(1).unwrap_or_default();
            let (status, body) = answer(path, &said.lock().expect("nobody panics with it"));
            let text = body.to_string();
            let answer = format!(
                "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\n\
                 Content-Length: {}\r\nConnection: close\r\n\r\n{text}",
                text.len()
            );
            // Whoever asked may have been killed.
            let _ = stream.write_all(answer.as_bytes());
        }
    });
}

fn answer(path: &str, said: &Said) -> (u16, Value) {
    if path.ends_with("/version") {
        (200, json!({ "ApiVersion": "1.41", "Version": "20.10.24" }))
    } else if path.ends_with("/info") {
        (200, json!({ "DockerRootDir": said.data_root }))
    } else if path.ends_with("/containers/json") {
        (200, said.containers.clone())
    } else {
        let name = path.rsplit('/').next().unwrap_or_default();
        let found = said.volumes.iter().find(|volume| {
            // One that lies about its name is found by its place.
            let place = volume["Mountpoint"].as_str().unwrap_or_default();
            volume["Name"] == name || place.contains(&format!("/{name}/"))
        });
        match found {
            Some(volume) if path.contains("/volumes/") => (200, volume.clone()),
            Some(_) | None => (404, json!({ "message": "no such thing" })),
        }
    }
}

/// Says on the tests' own output what is not tested here.
fn skipped(what: &str, why: &str) {
    // Not by a macro, whose words the test's harness keeps to itself.
    let _ = writeln!(std::io::stderr(), "skipped: {what}: {why}");
}

/// Runs `work` where file systems can be mounted that nobody else sees, and that end with it.
fn in_own_mounts(work: impl FnOnce() + Send + 'static) {
    let worker = std::thread::spawn(|| {
        use nix::mount::{MsFlags, mount};
        let none = None::<&str>;
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).expect("root may");
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).expect("root may");
        work();
    });
    if let Err(panic) = worker.join() {
        std::panic::resume_unwind(panic);
    }
}

/// A new file system of this kind and size at `place`, within [`in_own_mounts`]; why not, otherwise.
fn mount_new(make: &[&str], megabytes: u64, place: &Path) -> Result<(), String> {
    fs::create_dir_all(place).expect("a folder");
    let run = |command: &mut Command| {
        let output = command
            .output()
            .map_err(|error| format!("{command:?}: {error}"))?;
        if output.status.success() {
            return Ok(());
        }
        let words = String::from_utf8_lossy(&output.stderr).replace('\n', " ");
        Err(format!("{command:?}: {words}"))
    };
    if make[0] == "tmpfs" {
        let size = format!("size={megabytes}m");
        let mut command = Command::new("mount");
        return run(command
            .args(["-t", "tmpfs", "-o", &size, "none"])
            .arg(place));
    }
    // Holes until they are written to, and without a name once it is mounted.
    let image = place.with_extension("image");
    let file = fs::File::create(&image).expect("a file");
    file.set_len(megabytes << 20).expect("a size");
    let mut command = Command::new(make[0]);
    run(command.args(&make[1..]).arg(&image))?;
    let mounted = run(Command::new("mount")
        .args(["-o", "loop"])
        .arg(&image)
        .arg(place));
    fs::remove_file(&image).expect("it is there");
    mounted
}
