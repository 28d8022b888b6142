//! Which release the daemon runs: the workload with the exact images, by its release id.

use std::rc::Rc;

use super::status::Status;
use crate::core::api::Desired;
use crate::spec::release_id;
use crate::spec::types::Workload;

/// The release id, worked out anew only when the workload or an image is another one.
#[derive(Debug, Default)]
pub(super) struct Release {
    of: Option<(Rc<Workload>, Vec<String>)>,
    id: Option<String>,
}

impl Release {
    /// The id of what is wanted: with the images that the store has for it, or else that the containers were
    /// made from. `None` while one of them is not known.
    pub(super) fn id(
        &mut self,
        workload: &Rc<Workload>,
        desired: &[Desired],
        status: &Status,
    ) -> Option<String> {
        let images: Option<Vec<String>> = workload
            .containers
            .iter()
            .map(|container| {
                let wanted = desired.iter().find(|one| one.role == container.name);
                let stored = wanted.and_then(|desired| desired.image_id.clone());
                stored.or_else(|| status.containers.get(&container.name)?.image_id.clone())
            })
            .collect();
        let images = images?;
        let same = self
            .of
            .as_ref()
            .is_some_and(|(of, with)| Rc::ptr_eq(of, workload) && *with == images);
        if !same {
            self.id = Some(release_id(workload, &images));
            self.of = Some((Rc::clone(workload), images));
        }
        self.id.clone()
    }
}
