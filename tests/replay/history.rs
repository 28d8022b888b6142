//! What was done to the tree below one folder, operation by operation.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use crate::recorder;
use crate::trace::Call;
use crate::tree::{Inode, Node, Tree};

/// An operation.
#[derive(Clone, Debug)]
pub enum Op {
    /// An inode that no name reaches yet.
    Born(Inode, Node),
    /// Names of one folder stand for something else, or for nothing, all at once.
    Names(Inode, Vec<(String, Option<Inode>)>),
    /// Bytes at a position of a file.
    Write(Inode, u64, Arc<Vec<u8>>),
    /// A file is cut off, or filled up with zeros.
    Resize(Inode, u64),
    /// What was done to this inode is on the disk.
    Sync(Inode),
    /// All that was done is on the disk.
    SyncAll,
}

impl Op {
    /// Does it to a tree.
    pub fn apply(&self, tree: &mut Tree) {
        match self {
            Self::Born(inode, node) => {
                tree.0.insert(*inode, node.clone());
            }
            Self::Names(folder, changes) => {
                let entries = tree.folder_mut(*folder);
                for (name, inode) in changes {
                    match inode {
                        Some(inode) => entries.insert(name.clone(), *inode),
                        None => entries.remove(name),
                    };
                }
            }
            Self::Write(file, at, bytes) => {
                let content = tree.content_mut(*file);
                let at = usize::try_from(*at).expect("test files are small");
                let end = at + bytes.len();
                content.resize(content.len().max(end), 0);
                content[at..end].copy_from_slice(bytes);
            }
            Self::Resize(file, size) => {
                let size = usize::try_from(*size).expect("test files are small");
                tree.content_mut(*file).resize(size, 0);
            }
            Self::Sync(_) | Self::SyncAll => {}
        }
    }
}

/// What one call did. Nothing can be seen between its operations while the machine runs; after a
/// power cut anything can.
#[derive(Clone, Debug)]
pub struct Step {
    /// For people.
    pub text: String,
    /// In order.
    pub ops: Vec<Op>,
}

/// A tree, and all that was done to it.
#[derive(Clone, Debug)]
pub struct History {
    /// What was on the disk at the beginning.
    pub before: Tree,
    /// What was done, in order.
    pub steps: Vec<Step>,
    /// What can be seen now.
    pub now: Tree,
    /// The path under which an inode was first seen.
    pub paths: BTreeMap<Inode, String>,
}

impl History {
    /// Nothing has been done yet; all that is there is on the disk.
    pub fn new(root: &Path) -> Result<Self, String> {
        let tree = Tree::read(root).map_err(|error| format!("{}: {error}", root.display()))?;
        let mut paths = BTreeMap::from([(crate::tree::ROOT, ".".to_owned())]);
        for entry in tree.list() {
            if let Some(inode) = tree.find(&entry.path) {
                paths.entry(inode).or_insert(entry.path);
            }
        }
        Ok(Self {
            before: tree.clone(),
            steps: Vec::new(),
            now: tree,
            paths,
        })
    }

    /// The same as it was after so many steps.
    pub fn until(&self, steps: usize) -> Self {
        let mut earlier = Self {
            before: self.before.clone(),
            steps: self.steps[..steps].to_vec(),
            now: self.before.clone(),
            paths: self.paths.clone(),
        };
        for op in earlier.steps.iter().flat_map(|step| &step.ops) {
            op.apply(&mut earlier.now);
        }
        earlier
    }

    /// Adds what a command did below `root`, where the tree was as it is now in here.
    pub fn record(&mut self, calls: &[Call], root: &Path) -> Result<(), String> {
        let unseen = recorder::follow(self, calls, root)?;
        self.fill(&unseen, root)?;
        self.compare(root)
    }

    /// Takes the bytes that the log does not have from what the files ended as.
    fn fill(&mut self, unseen: &[(usize, usize)], root: &Path) -> Result<(), String> {
        let mut ends = BTreeMap::new();
        for entry in self.now.list() {
            if entry.content.is_some()
                && let Some(inode) = self.now.find(&entry.path)
            {
                ends.entry(inode).or_insert(entry.path);
            }
        }
        for &(step, op) in unseen {
            // Of a file that is gone, only its length is known, and nobody will miss the rest.
            if let Op::Write(file, at, bytes) = &mut self.steps[step].ops[op]
                && let Some(path) = ends.get(file)
            {
                let content = fs::read(root.join(path)).map_err(|error| error.to_string())?;
                let at = usize::try_from(*at).expect("test files are small");
                let end = at + bytes.len();
                let part = content
                    .get(at..end)
                    .ok_or("a file ended shorter than it was written")?;
                *bytes = Arc::new(part.to_vec());
            }
        }
        *self = self.until(self.steps.len());
        Ok(())
    }

    /// What was recorded makes what is there.
    fn compare(&self, root: &Path) -> Result<(), String> {
        let found = Tree::read(root).map_err(|error| error.to_string())?.list();
        let made = self.now.list();
        let (left, right) = (found.iter(), made.iter());
        let other: Vec<&String> = left
            .filter(|entry| !made.contains(entry))
            .chain(right.filter(|entry| !found.contains(entry)))
            .map(|entry| &entry.path)
            .collect();
        if other.is_empty() {
            Ok(())
        } else {
            Err(format!(
                "the recorder has missed something: {other:?} are not as recorded"
            ))
        }
    }
}
