//! What came of the last stick: shown behind the status line for an hour, or until the next one.
//!
//! It changes nothing that the daemon does, and is forgotten with it.

use std::time::Duration;

use crate::core::api::Notify;
use crate::core::time::Time;

/// How long it is shown.
const SHOWN: Duration = Duration::from_secs(3600);

/// What there is to show.
#[derive(Debug, Default)]
pub(super) struct Medium {
    said: Option<(String, Time)>,
    /// What the core last had systemd told.
    status: Option<String>,
}

impl Medium {
    /// Takes what came of a stick.
    pub(super) fn hear(&mut self, text: String, now: Time) {
        self.said = (!text.is_empty()).then(|| (text, now + SHOWN));
    }

    /// Forgets it.
    pub(super) fn forget(&mut self) {
        self.said = None;
    }

    /// What came of it, while that is shown.
    pub(super) fn text(&self) -> Option<&str> {
        self.said.as_ref().map(|(text, _)| text.as_str())
    }

    /// When it is to be forgotten.
    pub(super) fn deadline(&self) -> Option<Time> {
        self.said.as_ref().map(|(_, until)| *until)
    }

    /// The core's status line with it.
    pub(super) fn line(&self, line: &str) -> String {
        match self.text() {
            Some(text) => format!("{line}; stick: {text}"),
            None => line.to_owned(),
        }
    }

    /// What systemd is told instead of what the core says.
    pub(super) fn over(&mut self, notify: Notify) -> Notify {
        match notify {
            Notify::Status(line) => {
                let told = Notify::Status(self.line(&line));
                self.status = Some(line);
                told
            }
            Notify::Ready | Notify::Watchdog | Notify::Extend(_) | Notify::Stopping => notify,
        }
    }

    /// What systemd is told once it was heard or forgotten; nothing before the core has said a line.
    pub(super) fn again(&self) -> Option<Notify> {
        let line = self.status.as_deref()?;
        Some(Notify::Status(self.line(line)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_has_it_until_it_is_forgotten() {
        let status = |text: &str| Notify::Status(text.to_owned());
        let mut medium = Medium::default();
        let now = Time(Duration::from_secs(5));
        assert_eq!((medium.again(), medium.deadline()), (None, None));
        assert_eq!(medium.over(status("Healthy")), status("Healthy"));
        medium.hear("refused a.bundle".to_owned(), now);
        let both = "Healthy; stick: refused a.bundle";
        assert_eq!(medium.again(), Some(status(both)));
        assert_eq!(medium.over(Notify::Ready), Notify::Ready);
        let later = medium.over(status("Unhealthy"));
        assert_eq!(later, status("Unhealthy; stick: refused a.bundle"));
        assert_eq!(medium.deadline(), Some(now + SHOWN));
        medium.forget();
        assert_eq!(medium.again(), Some(status("Unhealthy")));
        assert_eq!((medium.text(), medium.deadline()), (None, None));
        medium.hear(String::new(), now);
        assert_eq!(medium.text(), None);
    }
}
