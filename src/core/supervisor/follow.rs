//! Containers that share another one's network: they live in that one's process, and die with it.
//!
//! Which process a follower was started in is on record, so that nothing is missed: neither what
//! happened while the daemon was away, nor what a call did that nobody heard of again.

use super::Supervisor;
use crate::core::container::{Course, Joined, Machine, Why};

impl Supervisor {
    /// The running container whose network a machine shares.
    pub(super) fn leader_of(&self, machine: &Machine) -> Option<Joined> {
        let role = machine.desired()?.network_of.as_ref()?;
        let leader = self.wanted(role)?.alive()?;
        Some((leader.found.id.clone(), leader.pid))
    }

    /// Sets the course of every follower whose leader is not the one that it was started with.
    pub(super) fn follow(&mut self) {
        for index in 0..self.machines.len() {
            let machine = &self.machines[index];
            let (Some((id, pid)), Some((joined, process))) =
                (self.leader_of(machine), machine.record.joined.as_ref())
            else {
                continue;
            };
            let course = if *joined != id {
                Course::Recreate(Why::Leader)
            } else if machine.alive().is_some() && *process != pid {
                Course::Restart(Why::Leader)
            } else {
                continue;
            };
            let machine = &mut self.machines[index];
            if machine.found().is_some()
                && !matches!(machine.course, Course::Recreate(_) | Course::Rebuild)
            {
                machine.course = course;
            }
        }
    }
}
