//! Runs the binary below a folder of its own, and compares with golden files.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

/// A run in the making.
pub struct Monopod {
    root: TempDir,
    args: Vec<String>,
    folder: Option<PathBuf>,
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
        }
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
        let output = Command::new(env!("CARGO_BIN_EXE_monopod"))
            .arg("--root")
            .arg(self.root.path())
            .args(&self.args)
            .current_dir(folder)
            .stdin(Stdio::null())
            .env_remove("NO_COLOR")
            .env_remove("COLUMNS")
            .output()
            .expect("the binary runs");
        let root = self.root.path().display().to_string();
        let text = |bytes| String::from_utf8_lossy(bytes).replace(&root, "[ROOT]");
        Outcome {
            args: self.args,
            code: output.status.code(),
            stdout: text(&output.stdout),
            stderr: text(&output.stderr),
        }
    }
}

impl Outcome {
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
