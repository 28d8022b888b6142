//! Folders and files as a disk has them: names, and what they stand for.

use std::collections::BTreeMap;
use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::hash::{Hash, Hasher};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

/// A file or a folder, whatever it is called.
pub type Inode = usize;

/// The folder that the rest is below.
pub const ROOT: Inode = 0;

/// What an inode is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Node {
    /// A folder and its names.
    Folder(BTreeMap<String, Inode>),
    /// A file and its content.
    File(Arc<Vec<u8>>),
}

/// A path and what it stands for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Entry {
    /// The path below the root.
    pub path: String,
    /// The same for two names of one file, and for equal trees.
    pub number: usize,
    /// A file's content.
    pub content: Option<Arc<Vec<u8>>>,
}

/// All inodes, those that no name reaches among them.
#[derive(Clone, Debug)]
pub struct Tree(pub BTreeMap<Inode, Node>);

impl Tree {
    /// Reads a folder and all below it. Two names of one file stay two names of one file.
    pub fn read(root: &Path) -> io::Result<Self> {
        let mut tree = Self(BTreeMap::from([(ROOT, Node::Folder(BTreeMap::new()))]));
        let mut known = BTreeMap::new();
        let mut folders = vec![(ROOT, root.to_owned())];
        while let Some((inode, path)) = folders.pop() {
            let mut entries = fs::read_dir(&path)?.collect::<Result<Vec<_>, _>>()?;
            entries.sort_by_key(fs::DirEntry::file_name);
            for entry in entries {
                let name = entry.file_name().into_string();
                let name = name
                    .map_err(|name| io::Error::other(format!("{} is no UTF-8", name.display())))?;
                let meta = fs::symlink_metadata(entry.path())?;
                let next = tree.0.len();
                let child = if meta.is_dir() {
                    tree.0.insert(next, Node::Folder(BTreeMap::new()));
                    folders.push((next, entry.path()));
                    next
                } else if meta.is_file() {
                    let child = *known.entry(meta.ino()).or_insert(next);
                    if child == next {
                        let bytes = Arc::new(fs::read(entry.path())?);
                        tree.0.insert(next, Node::File(bytes));
                    }
                    child
                } else {
                    return Err(io::Error::other(format!("{name}: neither file nor folder")));
                };
                tree.folder_mut(inode).insert(name, child);
            }
        }
        Ok(tree)
    }

    /// Makes it so in an empty folder.
    pub fn write(&self, root: &Path) -> io::Result<()> {
        let mut written: BTreeMap<Inode, std::path::PathBuf> = BTreeMap::new();
        let mut result = Ok(());
        self.walk(&mut |path, inode, node| {
            let to = root.join(path);
            let done = match (node, written.get(&inode)) {
                (Node::Folder(_), _) => fs::create_dir(&to),
                (Node::File(_), Some(other)) => fs::hard_link(other, &to),
                (Node::File(bytes), None) => fs::write(&to, bytes.as_slice()),
            };
            written.insert(inode, to);
            if result.is_ok() {
                result = done;
            }
        });
        result
    }

    /// The same for the same names, contents and links.
    pub fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.list().hash(&mut hasher);
        hasher.finish()
    }

    /// Every path that there is.
    pub fn list(&self) -> Vec<Entry> {
        let mut numbers = BTreeMap::new();
        let mut found = Vec::new();
        self.walk(&mut |path, inode, node| {
            let next = numbers.len();
            let number = *numbers.entry(inode).or_insert(next);
            let content = match node {
                Node::Folder(_) => None,
                Node::File(bytes) => Some(Arc::clone(bytes)),
            };
            found.push(Entry {
                path: path.to_owned(),
                number,
                content,
            });
        });
        found
    }

    /// Goes through what names reach, folders before what is in them.
    fn walk<'t>(&'t self, visit: &mut dyn FnMut(&str, Inode, &'t Node)) {
        let mut folders = vec![(ROOT, String::new())];
        while let Some((folder, path)) = folders.pop() {
            for (name, &inode) in self.folder(folder) {
                let path = if path.is_empty() {
                    name.clone()
                } else {
                    format!("{path}/{name}")
                };
                let Some(node) = self.0.get(&inode) else {
                    continue;
                };
                visit(&path, inode, node);
                if matches!(node, Node::Folder(_)) {
                    folders.push((inode, path));
                }
            }
        }
    }

    /// What a path stands for.
    pub fn find(&self, path: &str) -> Option<Inode> {
        let mut parts = path.split('/').filter(|part| !part.is_empty());
        parts.try_fold(ROOT, |at, part| match self.0.get(&at)? {
            Node::Folder(entries) => entries.get(part).copied(),
            Node::File(_) => None,
        })
    }

    /// A folder's names; none of what is no folder.
    pub fn folder(&self, inode: Inode) -> impl Iterator<Item = (&String, &Inode)> {
        let entries = match self.0.get(&inode) {
            Some(Node::Folder(entries)) => Some(entries.iter()),
            Some(Node::File(_)) | None => None,
        };
        entries.into_iter().flatten()
    }

    /// A folder's names, to be changed.
    pub fn folder_mut(&mut self, inode: Inode) -> &mut BTreeMap<String, Inode> {
        match self.0.get_mut(&inode) {
            Some(Node::Folder(entries)) => entries,
            Some(Node::File(_)) | None => panic!("inode {inode} is no folder"),
        }
    }

    /// A file's content; empty of what is no file.
    pub fn content(&self, inode: Inode) -> &[u8] {
        match self.0.get(&inode) {
            Some(Node::File(bytes)) => bytes,
            Some(Node::Folder(_)) | None => &[],
        }
    }

    /// A file's content, to be changed.
    pub fn content_mut(&mut self, inode: Inode) -> &mut Vec<u8> {
        match self.0.get_mut(&inode) {
            Some(Node::File(bytes)) => Arc::make_mut(bytes),
            Some(Node::Folder(_)) | None => panic!("inode {inode} is no file"),
        }
    }
}
