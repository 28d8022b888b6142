//! From calls to operations.
//!
//! It follows descriptors and positions by itself, so the command must be one process (of any number
//! of threads). Whether it understood everything is not believed: at the end [`History::record`]
//! compares the tree that its operations make with the one that is there.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use crate::history::{History, Op, Step};
use crate::trace::Call;
use crate::tree::{Inode, Node, ROOT};

/// An open file. Descriptors made of each other share it.
struct Open {
    inode: Inode,
    at: u64,
    append: bool,
}

/// The reader of one command's calls.
struct Recorder<'h> {
    history: &'h mut History,
    root: String,
    opened: Vec<Open>,
    descriptors: BTreeMap<i64, usize>,
    /// Writes whose bytes the log does not have: step, operation.
    unseen: Vec<(usize, usize)>,
}

/// Adds what these calls did below `root` to a history; returns the writes whose bytes the log does
/// not have, by step and operation.
pub fn follow(
    history: &mut History,
    calls: &[Call],
    root: &Path,
) -> Result<Vec<(usize, usize)>, String> {
    let mut recorder = Recorder {
        history,
        root: format!("{}/", root.display()),
        opened: Vec::new(),
        descriptors: BTreeMap::new(),
        unseen: Vec::new(),
    };
    let mut started = false;
    for call in calls {
        if call.name == "execve" && !started {
            started = true;
            continue;
        }
        let ops = recorder.ops(call);
        let ops = ops.map_err(|error| format!("{}: {error}", call.name))?;
        recorder.done(call, ops);
    }
    Ok(recorder.unseen)
}

impl Recorder<'_> {
    /// Does them, and remembers them if there are any.
    fn done(&mut self, call: &Call, ops: Vec<Op>) {
        if ops.is_empty() {
            return;
        }
        for op in &ops {
            op.apply(&mut self.history.now);
        }
        let told: Vec<String> = ops.iter().filter_map(|op| self.told(op)).collect();
        let text = format!("{} {}", call.name, told.join(" "));
        self.history.steps.push(Step { text, ops });
    }

    /// What people should know of an operation.
    fn told(&self, op: &Op) -> Option<String> {
        let path = |inode: &Inode| self.history.paths.get(inode).cloned().unwrap_or_default();
        match op {
            Op::Born(..) | Op::SyncAll => None,
            Op::Names(folder, changes) => {
                let change = |(name, inode): &(String, Option<Inode>)| match inode {
                    Some(inode) => format!("+{}/{name} ({})", path(folder), path(inode)),
                    None => format!("-{}/{name}", path(folder)),
                };
                Some(changes.iter().map(change).collect::<Vec<_>>().join(" "))
            }
            Op::Write(file, at, bytes) => Some(format!("{} {at}+{}", path(file), bytes.len())),
            Op::Resize(file, size) => Some(format!("{} to {size}", path(file))),
            Op::Sync(inode) => Some(path(inode)),
        }
    }

    /// What a call does to the tree.
    fn ops(&mut self, call: &Call) -> Result<Vec<Op>, String> {
        let one = |op| Ok(vec![op]);
        match call.name.as_str() {
            "open" | "creat" => self.open(call, None, 0),
            "openat" | "openat2" => self.open(call, Some(0), 1),
            "close" => {
                self.descriptors.remove(&call.number(0)?);
                Ok(Vec::new())
            }
            "dup" | "dup2" | "dup3" => self.same(call),
            "fcntl" if call.word(1)?.starts_with("F_DUPFD") => self.same(call),
            "lseek" => {
                if let Some(open) = self.file(call, 0)? {
                    self.opened[open].at = call.result.unsigned_abs();
                }
                Ok(Vec::new())
            }
            "write" | "writev" => self.write(call, None),
            "pwrite64" | "pwritev" | "pwritev2" => self.write(call, Some(3)),
            "copy_file_range" | "splice" => self.copy(call, 2, Some(3)),
            "sendfile" => self.copy(call, 0, None),
            "ftruncate" => match self.file(call, 0)? {
                Some(open) => one(Op::Resize(self.opened[open].inode, size(call, 1)?)),
                None => Ok(Vec::new()),
            },
            "truncate" => match self
                .place(call, None, 0)?
                .and_then(|(at, name)| self.entry(at, &name))
            {
                Some(inode) => one(Op::Resize(inode, size(call, 1)?)),
                None => Ok(Vec::new()),
            },
            "fallocate" => self.allocate(call),
            "link" => self.link(call, (None, 0), (None, 1)),
            "linkat" => self.link(call, (Some(0), 1), (Some(2), 3)),
            "rename" => self.rename(call, (None, 0), (None, 1)),
            "renameat" | "renameat2" => self.rename(call, (Some(0), 1), (Some(2), 3)),
            "unlink" | "rmdir" => self.unlink(call, None, 0),
            "unlinkat" => self.unlink(call, Some(0), 1),
            "mkdir" => self.mkdir(call, None, 0),
            "mkdirat" => self.mkdir(call, Some(0), 1),
            "fsync" | "fdatasync" => match self.file(call, 0)? {
                Some(open) => one(Op::Sync(self.opened[open].inode)),
                None => Ok(Vec::new()),
            },
            "sync" => one(Op::SyncAll),
            "syncfs" if self.file(call, 0)?.is_some() => one(Op::SyncAll),
            "syncfs" | "fcntl" => Ok(Vec::new()),
            "clone" | "clone3" if call.flag(0, "CLONE_THREAD") || call.flag(1, "CLONE_THREAD") => {
                Ok(Vec::new())
            }
            _ => Err("not followed by the recorder".to_owned()),
        }
    }

    /// The folder and the name that a path means; none outside of the root.
    fn place(
        &self,
        call: &Call,
        folder: Option<usize>,
        path: usize,
    ) -> Result<Option<(Inode, String)>, String> {
        let path = call.path(path)?;
        let below = match folder.map(|at| call.number(at)) {
            // Beside a folder's descriptor, a path may be relative to it.
            Some(Ok(descriptor)) if !path.starts_with('/') => {
                let Some(&open) = self.descriptors.get(&descriptor) else {
                    return Ok(None);
                };
                return self.below(self.opened[open].inode, &path);
            }
            _ if path == self.root.trim_end_matches('/') => Some(""),
            _ => path.strip_prefix(&self.root),
        };
        match below {
            Some(below) => self.below(ROOT, below),
            None if path.starts_with('/') => Ok(None),
            None => Err(format!("{path}: relative to nothing known")),
        }
    }

    fn below(&self, folder: Inode, path: &str) -> Result<Option<(Inode, String)>, String> {
        let mut parts: Vec<&str> = path
            .split('/')
            .filter(|part| !matches!(*part, "" | "."))
            .collect();
        if parts.contains(&"..") {
            return Err(format!("{path}: .. is not followed"));
        }
        let Some(name) = parts.pop() else {
            return Ok(Some((folder, ".".to_owned())));
        };
        let mut at = folder;
        for part in parts {
            at = self
                .entry(at, part)
                .ok_or_else(|| format!("{path}: no {part} is known"))?;
        }
        Ok(Some((at, name.to_owned())))
    }

    fn entry(&self, folder: Inode, name: &str) -> Option<Inode> {
        if name == "." {
            return Some(folder);
        }
        match self.history.now.0.get(&folder)? {
            Node::Folder(entries) => entries.get(name).copied(),
            Node::File(_) => None,
        }
    }

    fn born(&mut self, folder: Inode, name: &str, node: Node) -> (Inode, Vec<Op>) {
        let inode = self.history.now.0.len();
        let above = self.history.paths.get(&folder).cloned().unwrap_or_default();
        self.history.paths.insert(inode, format!("{above}/{name}"));
        let named = Op::Names(folder, vec![(name.to_owned(), Some(inode))]);
        (inode, vec![Op::Born(inode, node), named])
    }

    /// The open file that a descriptor stands for, if it is one of ours.
    fn file(&self, call: &Call, at: usize) -> Result<Option<usize>, String> {
        Ok(self.descriptors.get(&call.number(at)?).copied())
    }

    fn open(&mut self, call: &Call, folder: Option<usize>, path: usize) -> Result<Vec<Op>, String> {
        let flags = path + 1;
        self.descriptors.remove(&call.result);
        let Some((folder, name)) = self.place(call, folder, path)? else {
            return Ok(Vec::new());
        };
        if call.flag(flags, "O_TMPFILE") {
            return Err("O_TMPFILE is not followed".to_owned());
        }
        let mut ops = Vec::new();
        let truncate = call.name == "creat" || call.flag(flags, "O_TRUNC");
        let inode = match self.entry(folder, &name) {
            Some(inode) if truncate => {
                ops.push(Op::Resize(inode, 0));
                inode
            }
            Some(inode) => inode,
            None => {
                let (inode, born) = self.born(folder, &name, Node::File(Arc::default()));
                ops = born;
                inode
            }
        };
        self.descriptors.insert(call.result, self.opened.len());
        self.opened.push(Open {
            inode,
            at: 0,
            append: call.flag(flags, "O_APPEND"),
        });
        Ok(ops)
    }

    fn same(&mut self, call: &Call) -> Result<Vec<Op>, String> {
        match self.file(call, 0)? {
            Some(open) => self.descriptors.insert(call.result, open),
            None => self.descriptors.remove(&call.result),
        };
        Ok(Vec::new())
    }

    /// The file and the position that so many bytes go to, and moves it on.
    fn advance(&mut self, open: usize, at: Option<u64>, count: u64) -> (Inode, u64) {
        let size = self.history.now.content(self.opened[open].inode).len() as u64;
        let open = &mut self.opened[open];
        let from = match at {
            Some(at) => at,
            None if open.append => size,
            None => open.at,
        };
        if at.is_none() {
            open.at = from + count;
        }
        (open.inode, from)
    }

    fn write(&mut self, call: &Call, position: Option<usize>) -> Result<Vec<Op>, String> {
        let Some(open) = self.file(call, 0)? else {
            return Ok(Vec::new());
        };
        let count = call.result.unsigned_abs();
        let at = position.map(|at| size(call, at)).transpose()?;
        let mut bytes = call.bytes(1)?;
        bytes.truncate(usize::try_from(count).map_err(|error| error.to_string())?);
        if bytes.len() as u64 != count {
            return Err("the log has fewer bytes than were written".to_owned());
        }
        let (inode, at) = self.advance(open, at, count);
        Ok(vec![Op::Write(inode, at, Arc::new(bytes))])
    }

    /// Bytes that never passed through the process.
    fn copy(&mut self, call: &Call, to: usize, position: Option<usize>) -> Result<Vec<Op>, String> {
        let Some(open) = self.file(call, to)? else {
            return Ok(Vec::new());
        };
        let count = call.result.unsigned_abs();
        if count == 0 {
            return Ok(Vec::new());
        }
        let at = position.map(|at| call.pointed(at)).transpose()?.flatten();
        let (inode, at) = self.advance(open, at.map(i64::unsigned_abs), count);
        let zeros = vec![0; usize::try_from(count).map_err(|error| error.to_string())?];
        self.unseen.push((self.history.steps.len(), 0));
        Ok(vec![Op::Write(inode, at, Arc::new(zeros))])
    }

    fn allocate(&mut self, call: &Call) -> Result<Vec<Op>, String> {
        let Some(open) = self.file(call, 0)? else {
            return Ok(Vec::new());
        };
        let inode = self.opened[open].inode;
        let end = size(call, 2)? + size(call, 3)?;
        match call.word(1)? {
            "0" if end > self.history.now.content(inode).len() as u64 => {
                Ok(vec![Op::Resize(inode, end)])
            }
            "0" | "FALLOC_FL_KEEP_SIZE" => Ok(Vec::new()),
            mode => Err(format!("{mode} is not followed")),
        }
    }

    fn link(
        &mut self,
        call: &Call,
        from: (Option<usize>, usize),
        to: (Option<usize>, usize),
    ) -> Result<Vec<Op>, String> {
        let from = self.place(call, from.0, from.1)?;
        match (from, self.place(call, to.0, to.1)?) {
            (Some((from, old)), Some((to, new))) => {
                let inode = self
                    .entry(from, &old)
                    .ok_or("a link to what is not known")?;
                Ok(vec![Op::Names(to, vec![(new, Some(inode))])])
            }
            (None, None) => Ok(Vec::new()),
            _ => Err("a link across the root's border".to_owned()),
        }
    }

    fn rename(
        &mut self,
        call: &Call,
        from: (Option<usize>, usize),
        to: (Option<usize>, usize),
    ) -> Result<Vec<Op>, String> {
        if call.flag(4, "RENAME_WHITEOUT") {
            return Err("a white-out is not followed".to_owned());
        }
        let from = self.place(call, from.0, from.1)?;
        match (from, self.place(call, to.0, to.1)?) {
            (Some((from, old)), Some((to, new))) => {
                let inode = self
                    .entry(from, &old)
                    .ok_or("what is renamed is not known")?;
                // What the old name stands for then.
                let other = if call.flag(4, "RENAME_EXCHANGE") {
                    self.entry(to, &new)
                } else {
                    None
                };
                // Two names of one file: nothing happens.
                if self.entry(to, &new) == Some(inode) {
                    return Ok(Vec::new());
                }
                if from == to {
                    return Ok(vec![Op::Names(to, vec![(old, other), (new, Some(inode))])]);
                }
                Ok(vec![
                    Op::Names(to, vec![(new, Some(inode))]),
                    Op::Names(from, vec![(old, other)]),
                ])
            }
            (None, None) => Ok(Vec::new()),
            _ => Err("a rename across the root's border".to_owned()),
        }
    }

    fn unlink(
        &mut self,
        call: &Call,
        folder: Option<usize>,
        path: usize,
    ) -> Result<Vec<Op>, String> {
        let place = self.place(call, folder, path)?;
        Ok(place.map_or_else(Vec::new, |(folder, name)| {
            vec![Op::Names(folder, vec![(name, None)])]
        }))
    }

    fn mkdir(
        &mut self,
        call: &Call,
        folder: Option<usize>,
        path: usize,
    ) -> Result<Vec<Op>, String> {
        let Some((folder, name)) = self.place(call, folder, path)? else {
            return Ok(Vec::new());
        };
        Ok(self.born(folder, &name, Node::Folder(BTreeMap::new())).1)
    }
}

/// A length or a position.
fn size(call: &Call, at: usize) -> Result<u64, String> {
    u64::try_from(call.number(at)?).map_err(|error| error.to_string())
}
