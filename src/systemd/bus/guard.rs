//! Who may ask for what, and how a no is told.
//!
//! It must never let through what it cannot place.

use zbus::message::{Header, Message};
use zbus::names::ErrorName;
use zbus::{Connection, DBusError};

use super::RequestError;

/// Who asks, of those who may ask at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Caller {
    /// Root.
    Root,
    /// The daemon's own user, and that is not root: an importer, or whoever took it over.
    Ourselves,
}

impl Caller {
    /// Lets root through.
    pub(super) fn root(self) -> Result<(), Refusal> {
        match self {
            Self::Root => Ok(()),
            Self::Ourselves => Err(denied("only root may ask this")),
        }
    }
}

/// Lets root and the daemon's own user through.
pub(super) async fn root_or_ourselves(
    connection: &Connection,
    header: &Header<'_>,
) -> Result<(), Refusal> {
    caller(connection, header).await.map(drop)
}

/// Who asks: root or the daemon's own user; nobody else comes through.
///
/// The bus's policy says the same; this holds where the policy was not installed.
pub(super) async fn caller(
    connection: &Connection,
    header: &Header<'_>,
) -> Result<Caller, Refusal> {
    const BUS: &str = "org.freedesktop.DBus";
    let Some(sender) = header.sender() else {
        return Err(denied("the caller has no name on the bus"));
    };
    let user = connection
        .call_method(
            Some(BUS),
            "/org/freedesktop/DBus",
            Some(BUS),
            "GetConnectionUnixUser",
            &sender.as_str(),
        )
        .await
        .and_then(|reply| reply.body().deserialize::<u32>());
    match user {
        Ok(0) => Ok(Caller::Root),
        Ok(uid) if uid == nix::unistd::geteuid().as_raw() => Ok(Caller::Ourselves),
        Ok(_) => Err(denied("only root may ask this")),
        Err(_) => Err(denied("the bus does not say who asks")),
    }
}

fn denied(text: &str) -> Refusal {
    Refusal {
        name: "org.freedesktop.DBus.Error.AccessDenied",
        text: text.to_owned(),
    }
}

/// A refusal as the bus has it: a name and a text.
#[derive(Debug)]
pub(super) struct Refusal {
    name: &'static str,
    text: String,
}

impl Refusal {
    /// The call makes no sense.
    pub(super) fn arguments(text: String) -> Self {
        Self {
            name: "org.freedesktop.DBus.Error.InvalidArgs",
            text,
        }
    }
}

impl From<RequestError> for Refusal {
    fn from(error: RequestError) -> Self {
        let (name, text) = match error {
            RequestError::Invalid(text) => ("org.monopod.Error.Invalid", text),
            RequestError::NotFound(text) => ("org.monopod.Error.NotFound", text),
            RequestError::Refused(text) => ("org.monopod.Error.Refused", text),
            RequestError::Failed(text) => ("org.monopod.Error.Failed", text),
        };
        Self { name, text }
    }
}

impl DBusError for Refusal {
    fn create_reply(&self, call: &Header<'_>) -> zbus::Result<Message> {
        Message::error(call, self.name()).build(&self.text)
    }

    fn name(&self) -> ErrorName<'_> {
        ErrorName::from_static_str_unchecked(self.name)
    }

    fn description(&self) -> Option<&str> {
        Some(&self.text)
    }
}
