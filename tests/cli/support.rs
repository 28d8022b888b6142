//! Runs the binary below a folder of its own, and compares with golden files.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

/// A run in the making.
pub struct Monopod {
    root: TempDir,
    args: Vec<String>,
    folder: Option<PathBuf>,
    env: Vec<(String, String)>,
    /// Another user's, root willing.
    user: Option<u32>,
    input: Option<Vec<u8>>,
    deaf: bool,
}

/// What came out of it; the root's path reads `[ROOT]`.
pub struct Outcome {
    /// The arguments.
    pub args: Vec<String>,
    /// The exit code.
    pub code: Option<i32>,
    /// What programs read.
    pub stdout: String,
    /// What people read.
    pub stderr: String,
}

impl Monopod {
    /// `monopod ARGS...` on a node without any file.
    pub fn new(args: &[&str]) -> Self {
        Self {
            root: TempDir::new().expect("a temporary folder"),
            args: args.iter().map(|arg| (*arg).to_owned()).collect(),
            folder: None,
            env: Vec::new(),
            user: None,
            input: None,
            deaf: false,
        }
    }

    /// The node's root.
    pub fn root(&self) -> &Path {
        self.root.path()
    }

    /// Sets a variable. Without that, neither the bus nor the engine that it is sent to is there.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Runs it as this user and nobody else; the test must be root's.
    pub fn user(mut self, user: u32) -> Self {
        self.user = Some(user);
        self
    }

    /// What it reads on standard input.
    pub fn input(mut self, bytes: &[u8]) -> Self {
        self.input = Some(bytes.to_owned());
        self
    }

    /// Whoever should read its output is gone before it begins.
    pub fn deaf(mut self) -> Self {
        self.deaf = true;
        self
    }

    /// Gives the node a file, by its path below the root.
    pub fn file(self, path: &str, content: impl AsRef<[u8]>) -> Self {
        let path = self.root.path().join(path);
        let folder = path.parent().expect("below the root");
        fs::create_dir_all(folder).expect("a folder");
        fs::write(path, content).expect("a file");
        self
    }

    /// Runs in this folder.
    pub fn folder(mut self, folder: &Path) -> Self {
        self.folder = Some(folder.to_owned());
        self
    }

    /// Runs it, `--root` set.
    pub fn run(self) -> Outcome {
        let folder = self.folder.as_deref().unwrap_or(self.root.path());
        let root = self.root.path().display().to_string();
        let mut command = match self.user {
            None => Command::new(env!("CARGO_BIN_EXE_monopod")),
            Some(user) => self.as_user(user),
        };
        command
            .arg("--root")
            .arg(self.root.path())
            .args(&self.args)
            .current_dir(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .env_remove("NO_COLOR")
            .env_remove("COLUMNS")
            // Never this machine's own.
            .env("DBUS_SYSTEM_BUS_ADDRESS", format!("unix:path={root}/bus"))
            .env("DOCKER_HOST", format!("unix://{root}/docker.sock"))
            .envs(self.env.iter().map(|(name, value)| (name, value)));
        if self.deaf {
            let (reader, writer) = std::io::pipe().expect("a pipe");
            drop(reader);
            command.stdout(writer);
        }
        let mut child = command.spawn().expect("the binary runs");
        let mut stdin = child.stdin.take().expect("a pipe");
        // It may end before it has read everything.
        let _ = stdin.write_all(self.input.as_deref().unwrap_or_default());
        drop(stdin);
        let output = child.wait_with_output().expect("the binary ends");
        let text = |bytes| String::from_utf8_lossy(bytes).replace(&root, "[ROOT]");
        Outcome {
            args: self.args,
            code: output.status.code(),
            stdout: text(&output.stdout),
            stderr: text(&output.stderr),
        }
    }

    /// The binary as another user's; a copy of it, since that user may not get at the original.
    fn as_user(&self, user: u32) -> Command {
        use std::os::unix::fs::PermissionsExt;
        let copy = self.root.path().join("monopod");
        // By a process of its own: a child that another test starts meanwhile would hold the copy open
        // for writing, and nobody can run it then.
        let copied = Command::new("cp")
            .arg(env!("CARGO_BIN_EXE_monopod"))
            .arg(&copy)
            .status();
        assert!(copied.is_ok_and(|status| status.success()), "it is copied");
        fs::set_permissions(self.root.path(), fs::Permissions::from_mode(0o755))
            .expect("the folder is opened");
        let mut command = Command::new("setpriv");
        command
            .arg(format!("--reuid={user}"))
            .arg(format!("--regid={user}"))
            .arg("--clear-groups")
            .arg("--")
            .arg(copy);
        command
    }
}

impl Outcome {
    /// The same with `from`, which differs from run to run, as `to`.
    pub fn with(mut self, from: &str, to: &str) -> Self {
        self.stdout = self.stdout.replace(from, to);
        self.stderr = self.stderr.replace(from, to);
        self
    }

    /// The run as one text.
    pub fn story(&self) -> String {
        format!(
            "$ monopod {}\nexit code: {}\n--- stdout\n{}--- stderr\n{}",
            self.args.join(" "),
            self.code.map_or("none".to_owned(), |code| code.to_string()),
            self.stdout,
            self.stderr
        )
    }

    /// Compares the run with `golden/NAME.txt`.
    pub fn matches(&self, name: &str) {
        let file = golden().join(name).with_extension("txt");
        let found = self.story();
        if std::env::var_os("MONOPOD_BLESS").is_some() {
            fs::create_dir_all(file.parent().expect("below the golden folder")).expect("a folder");
            fs::write(&file, found).expect("a golden file");
            return;
        }
        let want = fs::read_to_string(&file).unwrap_or_default();
        assert!(
            found == want,
            "{} differs; MONOPOD_BLESS=1 writes it anew\n=== want\n{want}\n=== found\n{found}",
            file.display()
        );
    }
}

/// The golden files' folder.
pub fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cli/golden")
}
