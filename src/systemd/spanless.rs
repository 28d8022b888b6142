//! What the log's layers stand on: a subscriber without spans.
//!
//! monopod logs events only. The usual registry keeps room for spans, 32 KiB that the daemon would
//! hold for as long as it lives. This one must never let a span through: a layer would look for it.

use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::Interest;
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::registry::{Data, LookupSpan};

/// Lets events through to the layers, and no span.
pub(super) struct Spanless;

impl Subscriber for Spanless {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if metadata.is_span() {
            Interest::never()
        } else {
            Interest::always()
        }
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        !metadata.is_span()
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        // Never asked for: no span is enabled.
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, _: &Event<'_>) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

impl<'s> LookupSpan<'s> for Spanless {
    type Data = Data<'s>;

    fn span_data(&'s self, _: &Id) -> Option<Self::Data> {
        None
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn events_pass_and_spans_do_not_disturb() {
        let lines = Lines::default();
        let to = lines.clone();
        let layer = tracing_subscriber::fmt::layer()
            .with_ansi(false)
            .with_writer(move || to.clone());
        tracing::subscriber::with_default(Spanless.with(layer), || {
            let span = tracing::error_span!("somebody's", number = 1);
            let _entered = span.enter();
            tracing::info!("a line");
        });
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        assert!(text.contains("a line"), "{text}");
        assert!(!text.contains("somebody's"), "{text}");
    }
}
