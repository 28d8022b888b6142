//! The containers' objects on the bus: they come and go with the containers.
//!
//! Everything shown is read from the published status at the moment it is asked
//! for; nothing is kept beside it.

use std::fmt::Write as _;
use std::sync::Arc;

use tokio::sync::watch;
use zbus::{Connection, ObjectPath, Variant, interface};

use super::PATH;
use super::objects::{Property, changes, tell};
use crate::daemon::{ContainerStatus, Status};
use crate::spec::types::Role;

/// The interface of a container's object.
const CONTAINER: &str = "org.monopod.Container1";

/// One container's object.
pub(super) struct Container {
    role: Role,
    state: watch::Receiver<Arc<Status>>,
}

impl Container {
    /// What is asked for; nothing of a container that has just gone.
    fn read<T: Default>(&self, of: impl FnOnce(&ContainerStatus) -> T) -> T {
        let status = self.state.borrow();
        status
            .containers
            .get(&self.role)
            .map(of)
            .unwrap_or_default()
    }
}

#[interface(name = "org.monopod.Container1", introspection_docs = false)]
impl Container {
    /// Its name in the workload.
    #[zbus(property(emits_changed_signal = "const"))]
    fn name(&self) -> String {
        self.role.to_string()
    }

    /// `absent`, `created`, `running`, `stopping`, `exited`, `backoff` or `unknown`.
    #[zbus(property)]
    fn state(&self) -> String {
        self.read(|container| container.state.clone())
    }

    /// `starting`, `healthy`, `unhealthy` or `unknown`.
    #[zbus(property)]
    fn verdict(&self) -> &'static str {
        self.read(|container| container.verdict.as_str())
    }

    /// Starts after the first.
    #[zbus(property)]
    fn restarts(&self) -> u32 {
        self.read(|container| container.restarts)
    }

    /// The image's reference.
    #[zbus(property)]
    fn image(&self) -> String {
        self.read(|container| container.image.clone())
    }

    /// The image's ID; empty if it is not known.
    #[zbus(property, name = "ImageID")]
    fn image_id(&self) -> String {
        self.read(|container| container.image_id.clone().unwrap_or_default())
    }

    /// The engine's ID of it; empty if there is none.
    #[zbus(property, name = "ContainerID")]
    fn container_id(&self) -> String {
        self.read(|container| container.id.clone().unwrap_or_default())
    }

    /// Its init process on the host; 0 if it does not run.
    #[zbus(property, name = "MainPID")]
    fn main_pid(&self) -> u32 {
        self.read(|container| container.pid.unwrap_or_default())
    }

    /// What went wrong, or what it waits for; empty if all is well.
    #[zbus(property)]
    fn note(&self) -> String {
        self.read(|container| container.note.clone().unwrap_or_default())
    }

    /// Since when its state stands.
    #[zbus(property(emits_changed_signal = "false"))]
    fn since(&self) -> String {
        self.read(|container| container.since.clone())
    }

    /// The last answer to its health question: when, `pass`, `fail` or `cannot-ask`, and in words.
    #[zbus(property(emits_changed_signal = "false"))]
    fn last_answer(&self) -> (String, String, String) {
        self.read(|container| {
            let last = container.last.as_ref();
            last.map(|last| {
                let answer = last.answer.as_str().to_owned();
                (last.time.clone(), answer, last.text.clone())
            })
            .unwrap_or_default()
        })
    }
}

/// What changes of a container's properties and is signalled: not what changes at every probe.
fn container_properties(container: &ContainerStatus) -> [Property<'_>; 8] {
    fn text(text: Option<&String>) -> Variant<'_> {
        text.map(String::as_str).unwrap_or_default().into()
    }
    [
        ("State", container.state.as_str().into()),
        ("Verdict", container.verdict.as_str().into()),
        ("Restarts", container.restarts.into()),
        ("Image", container.image.as_str().into()),
        ("ImageID", text(container.image_id.as_ref())),
        ("ContainerID", text(container.id.as_ref())),
        ("MainPID", container.pid.unwrap_or_default().into()),
        ("Note", text(container.note.as_ref())),
    ]
}

/// The containers' objects, as they are at the start.
pub(super) fn containers(
    state: &watch::Receiver<Arc<Status>>,
) -> Vec<(ObjectPath<'static>, Container)> {
    let status = state.borrow();
    let roles = status.containers.keys();
    roles
        .map(|role| {
            let container = Container {
                role: role.clone(),
                state: state.clone(),
            };
            (path(role), container)
        })
        .collect()
}

/// Which containers have objects.
pub(super) struct Containers(Vec<Role>);

impl Containers {
    /// Those of this status.
    pub(super) fn new(status: &Status) -> Self {
        Self(status.containers.keys().cloned().collect())
    }

    /// Adds and removes objects as containers come and go, and signals what changed of the others.
    pub(super) async fn follow(
        &mut self,
        connection: &Connection,
        state: &watch::Receiver<Arc<Status>>,
        old: &Status,
        new: &Status,
    ) -> zbus::Result<()> {
        let server = connection.object_server();
        let (stay, gone): (Vec<_>, Vec<_>) = std::mem::take(&mut self.0)
            .into_iter()
            .partition(|role| new.containers.contains_key(role));
        self.0 = stay;
        for role in gone {
            server.remove::<Container, _>(path(&role)).await?;
        }
        for (role, container) in &new.containers {
            if !self.0.contains(role) {
                let object = Container {
                    role: role.clone(),
                    state: state.clone(),
                };
                self.0.push(role.clone());
                server.at(path(role), object).await?;
            } else if let Some(before) = old.containers.get(role) {
                let changes = changes(
                    container_properties(before),
                    container_properties(container),
                );
                tell(connection, path(role), CONTAINER, changes).await?;
            }
        }
        Ok(())
    }
}

/// The path of a container's object: the name as systemd writes a unit's, `_xx` for what a path cannot have.
pub(super) fn path(role: &Role) -> ObjectPath<'static> {
    let mut path = format!("{PATH}/container/");
    for byte in role.as_str().bytes() {
        if byte.is_ascii_alphanumeric() {
            path.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(path, "_{byte:02x}");
        }
    }
    // Only letters, digits and underscores, and no name is empty.
    ObjectPath::from_string_unchecked(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_names() {
        let table = [
            ("app", "app"),
            ("my-app", "my_2dapp"),
            ("a_b.c", "a_5fb_2ec"),
            ("9", "9"),
        ];
        for (name, expected) in table {
            let path = path(&Role::new(name));
            assert_eq!(path.as_str(), format!("{PATH}/container/{expected}"));
            assert!(ObjectPath::try_from(path.as_str()).is_ok(), "{path}");
        }
    }
}
