//! Panics, which are faults of ours: counted, and told in the log's own form and place.

use std::panic::{self, PanicHookInfo};

use super::events;
use super::metrics::{Metrics, SharedMetrics};

/// From now on panics of this process are counted and logged, and no more written to standard error as they come.
pub fn tell_of_panics(metrics: SharedMetrics) {
    panic::set_hook(Box::new(move |info| tell(&metrics, info)));
}

fn tell(metrics: &Metrics, info: &PanicHookInfo<'_>) {
    let place = info.location().map(ToString::to_string).unwrap_or_default();
    let thread = std::thread::current();
    events::panicked(metrics, thread.name().unwrap_or("unnamed"), &place, words(info));
}

/// What it says, if these are words of the source. What was put together at run time may quote a visitor: the message
/// of a slice that is cut in the middle of a character has the whole text in it.
fn words<'a>(info: &'a PanicHookInfo<'_>) -> &'a str {
    info.payload().downcast_ref::<&'static str>().copied().unwrap_or("(its words may hold what was sent)")
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// What a panic of this thread is told as; those of other tests go their way.
    fn told(metrics: &SharedMetrics, panics: impl FnOnce() + panic::UnwindSafe) -> String {
        let (lines, here) = (Lines::default(), std::thread::current().id());
        let (writer, metrics) = (lines.clone(), Arc::clone(metrics));
        let subscriber =
            tracing_subscriber::fmt().json().flatten_event(true).with_writer(move || writer.clone()).finish();
        let before: Arc<dyn Fn(&PanicHookInfo<'_>) + Send + Sync> = panic::take_hook().into();
        let others = Arc::clone(&before);
        panic::set_hook(Box::new(move |info| match std::thread::current().id() == here {
            true => tell(&metrics, info),
            false => others(info),
        }));
        tracing::subscriber::with_default(subscriber, || assert!(panic::catch_unwind(panics).is_err()));
        panic::set_hook(Box::new(move |info| before(info)));
        String::from_utf8(lines.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn a_panic_is_counted_and_told_in_one_line_without_what_was_sent() {
        let metrics = SharedMetrics::new(Metrics::new());
        let line = told(&metrics, || panic!("words of the source"));
        let json: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert!(json["message"].as_str().unwrap().ends_with("words of the source"), "{line}");
        assert!(json["place"].as_str().unwrap().contains("panics.rs:"), "{line}");
        let sent = String::from("caf\u{e9} crumbly");
        let line = told(&metrics, move || drop(sent[..4].to_owned()));
        assert!(
            serde_json::from_str::<serde_json::Value>(&line).is_ok() && !line.contains("crumbly"),
            "{line}"
        );
        assert!(metrics.render().contains("\noptgate_panics_total 2\n"), "{}", metrics.render());
    }
}
