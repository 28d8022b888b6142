//! A progress bar on stderr, if that is a terminal.

use std::io::{IsTerminal, stderr};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::image::Progress;

/// A bar with rate and time left; a counter where nobody knows how much is to come.
pub struct Bar {
    bar: ProgressBar,
}

impl Bar {
    /// A bar that is shown once something has moved.
    pub fn new() -> Self {
        let bar = if stderr().is_terminal() {
            ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(5))
        } else {
            ProgressBar::hidden()
        };
        Self { bar }
    }

    /// Takes over how far the work is.
    pub fn show(&self, progress: Progress<'_>) {
        if self.bar.is_hidden() {
            return;
        }
        if self.bar.length() != progress.total || self.bar.position() == 0 {
            let template = match progress.total {
                Some(_) => "{bar:30} {bytes}/{total_bytes} {bytes_per_sec} {eta} left  {wide_msg}",
                None => "{spinner} {bytes} {bytes_per_sec}  {wide_msg}",
            };
            if let Ok(style) = ProgressStyle::with_template(template) {
                self.bar.set_style(style);
            }
            if let Some(total) = progress.total {
                self.bar.set_length(total);
            }
        }
        self.bar.set_position(progress.done);
        self.bar.set_message(progress.what.to_owned());
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
