//! What a power cut can leave: the model of the disk.
//!
//! What POSIX promises, and no more; where file systems are better than that, nobody has to rely on
//! it. It is weaker than ext4 with ordered data, XFS and btrfs, and about what the authors of ALICE
//! (Pillai et al., "All File Systems Are Not Created Equal", OSDI 2014) found file systems to do:
//!
//! - What was done to an inode before the last fsync or fdatasync of it, or sync, holds.
//! - Of a file's later writes and cuts any prefix is there, the last of it torn at any byte; or the
//!   length of them all with zeros for what was written (a size that came before its data).
//! - Of a folder's later changes of names (creation, link, rename, removal) any prefix is there: they
//!   keep their order within one folder. Between folders, and between names and data, there is none.
//! - A rename within a folder is one change. From one folder to another it is two, of which either
//!   can be lost, as a file system without a journal does it.
//! - An fsync of a file does not bring its name, nor an fsync of a folder that folder's own name.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::history::{History, Op};
use crate::tree::{Inode, Tree};

/// A generator of numbers, so that each run looks at the same states (xorshift64).
pub struct Dice(u64);

impl Dice {
    /// The same numbers for the same seed.
    pub fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    /// A number below `count`, which is not 0.
    fn below(&mut self, count: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % count as u64).expect("below a usize")
    }
}

/// How much of what is not durable is there, of one inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kept {
    /// So many operations.
    First(usize),
    /// So many operations, and so many bytes of the next one.
    Torn(usize, usize),
    /// The length that they all make, and none of their bytes.
    Hollow,
}

/// A disk on which not everything is durable.
pub struct Disk {
    durable: Tree,
    pending: BTreeMap<Inode, Vec<Op>>,
}

/// What may be found after a power cut.
pub struct Found {
    /// The names and contents.
    pub tree: Tree,
    /// What was lost, for people.
    pub lost: String,
}

impl Disk {
    /// After so many of a history's steps.
    pub fn after(history: &History, steps: usize) -> Self {
        let mut disk = Self {
            durable: history.before.clone(),
            pending: BTreeMap::new(),
        };
        for op in history.steps[..steps].iter().flat_map(|step| &step.ops) {
            disk.take(op);
        }
        disk
    }

    /// One operation more.
    pub fn take(&mut self, op: &Op) {
        match op {
            Op::Born(..) => op.apply(&mut self.durable),
            Op::Names(inode, _) | Op::Write(inode, _, _) | Op::Resize(inode, _) => {
                self.pending.entry(*inode).or_default().push(op.clone());
            }
            Op::Sync(inode) => {
                for op in self.pending.remove(inode).unwrap_or_default() {
                    op.apply(&mut self.durable);
                }
            }
            Op::SyncAll => {
                for op in std::mem::take(&mut self.pending).into_values().flatten() {
                    op.apply(&mut self.durable);
                }
            }
        }
    }

    /// What may be found: all of it if that is at most `bound`, else the worst cases that people know
    /// of, and others by lot.
    pub fn states(&self, bound: usize, dice: &mut Dice, history: &History) -> Vec<Found> {
        let inodes: Vec<(&Inode, Vec<Kept>)> = self
            .pending
            .iter()
            .map(|(inode, ops)| (inode, choices(ops, dice)))
            .collect();
        let product = inodes.iter().try_fold(1usize, |product, (_, kept)| {
            product.checked_mul(kept.len()).filter(|all| *all <= bound)
        });
        let mut picks: BTreeSet<Vec<usize>> = BTreeSet::new();
        if let Some(all) = product {
            for mut number in 0..all {
                picks.insert(
                    inodes
                        .iter()
                        .map(|(_, kept)| {
                            let pick = number % kept.len();
                            number /= kept.len();
                            pick
                        })
                        .collect(),
                );
            }
        } else {
            self.worst(&inodes, bound, &mut picks);
            // Enough throws to find what is new among so many.
            for _ in 0..bound * 4 {
                if picks.len() >= bound {
                    break;
                }
                picks.insert(
                    inodes
                        .iter()
                        .map(|(_, kept)| dice.below(kept.len()))
                        .collect(),
                );
            }
        }
        picks
            .into_iter()
            .map(|pick| {
                let kept: Vec<(Inode, Kept)> = inodes
                    .iter()
                    .zip(pick)
                    .map(|((inode, kept), pick)| (**inode, kept[pick]))
                    .collect();
                self.found(&kept, history)
            })
            .collect()
    }

    /// All is there, nothing is; names without data; one inode alone lost, or alone kept, in each way.
    fn worst(
        &self,
        inodes: &[(&Inode, Vec<Kept>)],
        bound: usize,
        picks: &mut BTreeSet<Vec<usize>>,
    ) {
        // The choices begin with everything and nothing.
        let (all, none) = (0, 1);
        let names = |inode: &Inode| matches!(self.pending[inode].first(), Some(Op::Names(..)));
        let each = |pick: &dyn Fn(&Inode, &Vec<Kept>) -> usize| -> Vec<usize> {
            inodes
                .iter()
                .map(|(inode, kept)| pick(inode, kept))
                .collect()
        };
        picks.insert(each(&|_, _| all));
        picks.insert(each(&|_, _| none));
        picks.insert(each(&|inode, _| if names(inode) { all } else { none }));
        picks.insert(each(&|inode, _| if names(inode) { none } else { all }));
        picks.insert(each(&|inode, kept| {
            let hollow = kept.iter().position(|kept| *kept == Kept::Hollow);
            if names(inode) {
                all
            } else {
                hollow.unwrap_or(none)
            }
        }));
        let mut alone = |at: usize, choice: usize, rest: usize| {
            if picks.len() < bound {
                let mut pick = vec![rest; inodes.len()];
                pick[at] = choice;
                picks.insert(pick);
            }
        };
        for at in 0..inodes.len() {
            alone(at, none, all);
            alone(at, all, none);
        }
        for (at, (inode, kept)) in inodes.iter().enumerate() {
            for choice in 2..kept.len() {
                if !names(inode) {
                    alone(at, choice, all);
                }
            }
        }
    }

    fn found(&self, kept: &[(Inode, Kept)], history: &History) -> Found {
        let mut tree = self.durable.clone();
        let mut lost = Vec::new();
        for (inode, kept) in kept {
            let ops = &self.pending[inode];
            let (whole, torn) = match *kept {
                Kept::First(count) => (count, None),
                Kept::Torn(count, bytes) => (count, Some(bytes)),
                Kept::Hollow => (0, None),
            };
            for op in &ops[..whole] {
                op.apply(&mut tree);
            }
            if let (Some(bytes), Some(Op::Write(file, at, content))) = (torn, ops.get(whole)) {
                Op::Write(*file, *at, Arc::new(content[..bytes].to_vec())).apply(&mut tree);
            }
            if *kept == Kept::Hollow {
                for op in ops {
                    match op {
                        Op::Write(file, at, content) => {
                            Op::Write(*file, *at, Arc::new(vec![0; content.len()]))
                                .apply(&mut tree);
                        }
                        other => other.apply(&mut tree),
                    }
                }
            }
            if *kept != Kept::First(ops.len()) {
                let path = history.paths.get(inode).map_or("?", String::as_str);
                lost.push(format!("{path}: {kept:?} of {}", ops.len()));
            }
        }
        Found {
            tree,
            lost: if lost.is_empty() {
                "nothing".to_owned()
            } else {
                lost.join("; ")
            },
        }
    }
}

/// Everything, nothing, and what is between them.
fn choices(ops: &[Op], dice: &mut Dice) -> Vec<Kept> {
    let mut kept = vec![Kept::First(ops.len()), Kept::First(0)];
    kept.extend((1..ops.len()).rev().map(Kept::First));
    if ops.iter().any(|op| matches!(op, Op::Write(..))) {
        kept.push(Kept::Hollow);
    }
    for (at, op) in ops.iter().enumerate().rev() {
        if let Op::Write(_, _, bytes) = op
            && bytes.len() > 1
        {
            let mut cuts = BTreeSet::from([1, bytes.len() - 1, bytes.len() / 2]);
            cuts.insert(1 + dice.below(bytes.len() - 1));
            kept.extend(cuts.into_iter().map(|cut| Kept::Torn(at, cut)));
        }
    }
    kept
}
