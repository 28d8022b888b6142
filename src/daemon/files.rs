//! What monopod itself puts into a container: inline files, secrets, the notify socket's folder.
//!
//! All of it is below `/run/monopod`, so that no secret touches the disk; it is written anew before
//! each creation and start, because a reboot takes it away and leaves the container.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use nix::sys::statfs::{TMPFS_MAGIC, statfs};

use crate::engine::HostFile;
use crate::paths::Paths;
use crate::spec::types::{Container, Healthcheck, Probe, Secret};

/// The folder of the notify socket, as the container sees it.
const NOTIFY: &str = "/run/monopod";

/// A file that is not whole yet. No secret's name has a `~` in it.
const NEW: &str = "new~";

/// Where a container's notify socket is on the host.
pub fn notify_folder(paths: &Paths, container: &Container) -> PathBuf {
    paths.run().join("notify").join(container.name.as_str())
}

/// Whether the container's app is to speak for itself.
pub fn speaks(container: &Container) -> bool {
    matches!(&container.healthcheck, Healthcheck::Own(health) if health.probe == Probe::Notify)
}

/// Writes the files and says how they are mounted.
///
/// # Errors
///
/// A sentence for people: a source cannot be read, or a secret would touch a disk.
pub fn write(paths: &Paths, container: &Container) -> Result<Vec<HostFile>, String> {
    let mut mounts = Vec::new();
    let name = container.name.as_str();
    let folder = paths.run().join("files").join(name);
    for (number, (target, file)) in container.files.iter().enumerate() {
        let source = folder.join(number.to_string());
        put(&folder, &source, file.content.as_bytes(), file.mode)
            .map_err(|error| format!("cannot write {}: {error}", source.display()))?;
        mounts.push(mount(&source, target));
    }
    let folder = paths.run().join("secrets").join(name);
    for (secret, from) in &container.secrets {
        let origin = match from {
            Secret::File(path) => path.clone(),
            Secret::Credential(credential) => credentials(credential)?,
        };
        let bytes = fs::read(&origin).map_err(|error| {
            let what = if error.kind() == io::ErrorKind::PermissionDenied {
                format!("; chgrp monopod {0} && chmod 0640 {0}", origin.display())
            } else {
                String::new()
            };
            format!(
                "secret {secret}: cannot read {}: {error}{what}",
                origin.display()
            )
        })?;
        in_memory(&paths.run())?;
        let source = folder.join(secret);
        // The folder above keeps others on the host out; in the container any user may read it.
        put(&folder, &source, &bytes, 0o444)
            .map_err(|error| format!("cannot write {}: {error}", source.display()))?;
        mounts.push(mount(&source, &format!("/run/secrets/{secret}")));
    }
    if speaks(container) {
        mounts.push(mount(&notify_folder(paths, container), NOTIFY));
    }
    Ok(mounts)
}

/// The container as the engine is to make it: an app that speaks for itself is told where to.
pub fn with_notify(container: &Container) -> Container {
    let mut told = container.clone();
    if let Healthcheck::Own(health) = &container.healthcheck
        && health.probe == Probe::Notify
    {
        let interval = health.timing.interval.as_micros().to_string();
        told.environment.insert(
            "NOTIFY_SOCKET".to_owned(),
            format!("{NOTIFY}/{}", crate::probe::notify::AppSocket::NAME),
        );
        told.environment
            .insert("WATCHDOG_USEC".to_owned(), interval);
    }
    told
}

fn mount(source: &Path, target: &str) -> HostFile {
    HostFile {
        source: source.display().to_string(),
        target: target.to_owned(),
        read_only: true,
    }
}

fn put(folder: &Path, path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    fs::set_permissions(folder, Permissions::from_mode(0o700))?;
    let new = folder.join(NEW);
    // What a daemon left that was killed here may be read-only, even for its owner.
    if let Err(error) = fs::remove_file(&new)
        && error.kind() != io::ErrorKind::NotFound
    {
        return Err(error);
    }
    fs::write(&new, bytes)?;
    fs::set_permissions(&new, Permissions::from_mode(mode))?;
    fs::rename(&new, path)
}

fn credentials(name: &str) -> Result<PathBuf, String> {
    std::env::var_os("CREDENTIALS_DIRECTORY")
        .map(|folder| Path::new(&folder).join(name))
        .ok_or_else(|| {
            format!(
                "secret credential {name}: systemd hands no credentials to the daemon; \
                 add LoadCredential={name}:/PATH to its unit (systemctl edit monopod)"
            )
        })
}

fn in_memory(folder: &Path) -> Result<(), String> {
    match statfs(folder) {
        Ok(stat) if stat.filesystem_type() == TMPFS_MAGIC => Ok(()),
        Ok(_) => Err(format!(
            "{} is not on a tmpfs, so a secret would be written to a disk; mount a tmpfs there",
            folder.display()
        )),
        Err(error) => Err(format!("cannot look at {}: {error}", folder.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_and_no_other_is_touched() {
        let dir = tempfile::tempdir().expect("a folder");
        let folder = dir.path().join("secrets");
        let other = dir.path().join("other");
        fs::create_dir(&folder).expect("a folder");
        fs::write(&other, "other").expect("a file");
        // What a killed daemon left, as something that must not be written to.
        std::os::unix::fs::symlink(&other, folder.join(NEW)).expect("a link");
        for (name, text) in [("a.new", "1"), ("a", "2"), ("a", "3"), ("b.x", "4")] {
            put(&folder, &folder.join(name), text.as_bytes(), 0o444).expect(name);
        }
        for (name, text) in [
            ("a.new", "1"),
            ("a", "3"),
            ("b.x", "4"),
            ("../other", "other"),
        ] {
            let found = fs::read_to_string(folder.join(name)).expect(name);
            assert_eq!(found, text, "{name}");
        }
        let mode = fs::metadata(folder.join("a")).expect("a").permissions();
        assert_eq!(mode.mode() & 0o777, 0o444);
        assert_eq!(fs::read_dir(&folder).expect("a folder").count(), 3);
    }
}
