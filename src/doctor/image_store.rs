//! Can monopod put images into the engine's storage, and is that storage fit for a small disk?

use super::{Check, Finding, Run};
use crate::engine::EngineInfo;

/// The check.
pub(super) const CHECK: Check = Check {
    id: "image-store",
    title: "how the engine stores images: a kind that monopod can feed",
    run: Run::Asks(|machine| {
        Box::pin(async move {
            match machine.info().await {
                Ok(info) => judge(info),
                Err(silence) => silence.skipped(),
            }
        })
    }),
};

fn judge(info: &EngineInfo) -> Finding {
    let driver = &info.storage_driver;
    if info.containerd_images {
        return Finding::failure(format!(
            "the engine keeps its images in containerd's image store ({driver}), which monopod cannot feed"
        ))
        .hint("in /etc/docker/daemon.json: { \"features\": { \"containerd-snapshotter\": false } }")
        .hint("then: systemctl restart docker; monopod feeds the images from its store again");
    }
    match driver.as_str() {
        "vfs" => Finding::warning("vfs stores every layer as a full copy of all below it")
            .hint("in /etc/docker/daemon.json: { \"storage-driver\": \"overlay2\" }; the kernel needs overlayfs"),
        "aufs" | "devicemapper" | "overlay" => {
            Finding::warning(format!("the storage driver {driver} is gone in newer engines"))
                .hint("in /etc/docker/daemon.json: { \"storage-driver\": \"overlay2\" }")
        }
        "" => Finding::note("the engine does not say how it stores images"),
        driver => Finding::ok(driver),
    }
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::*;

    #[test]
    fn judgements() {
        let table = [
            ("overlay2", false, State::Ok),
            ("btrfs", false, State::Ok),
            ("overlayfs", true, State::Failure),
            ("vfs", false, State::Warning),
            ("devicemapper", false, State::Warning),
            ("", false, State::Note),
        ];
        for (driver, containerd_images, state) in table {
            let info = EngineInfo {
                containerd_images,
                storage_driver: driver.to_owned(),
                ..EngineInfo::default()
            };
            assert_eq!(judge(&info).state, state, "{driver}");
        }
    }
}
