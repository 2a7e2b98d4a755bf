//! What the tests share: a scripted origin, raw clients, certificates, and Optgate in between.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use optgate::config;
use optgate::store::{OpenError, Store};

pub mod authority;
pub mod binary;
pub mod browser;
pub mod checker;
pub mod client;
pub mod coding;
pub mod dns;
pub mod dom;
pub mod frames;
pub mod front;
pub mod grpc;
pub mod guard;
pub mod h2;
pub mod jar;
pub mod leaks;
pub mod netns;
pub mod npm;
pub mod origin;
pub mod paced;
pub mod pki;
pub mod postgres;
pub mod proxy;
pub mod random;
pub mod relay;
pub mod restarted;
pub mod smtp;
pub mod vectors;
pub mod wall_clock;

/// How long a test waits for something that must happen. Generous: it only ends a hanging test.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// A folder of test material that lies beside the repository, or `None` after a line that says so.
///
/// `OPTGATE_SHARED` names another place for it.
pub fn beside(name: &str, test: &str) -> Option<PathBuf> {
    let shared = std::env::var_os("OPTGATE_SHARED")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared"), PathBuf::from);
    let path = shared.join(name);
    if path.exists() {
        return Some(path);
    }
    skipped(test, &format!("{} is absent", path.display()));
    None
}

/// Waits until something holds that another thread brings about.
pub fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = std::time::Instant::now();
    while !holds() {
        assert!(start.elapsed() < DEADLINE, "never: {what}");
        // Not a core of its own: what is waited for needs one.
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Sets this when it goes, so that what goes on beside a test ends however the test ends.
pub struct Ends<'a>(pub &'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// Says that a test could not run here and why; `tests/run` counts these lines.
pub fn skipped(test: &str, why: &str) {
    println!("skipped: {test}: {why}");
}

/// Replaces text in a file.
pub fn edit(file: &Path, from: &str, to: &str) {
    let text = std::fs::read_to_string(file).unwrap();
    assert!(text.contains(from), "{from:?} is not in {}", file.display());
    std::fs::write(file, text.replace(from, to)).unwrap();
}

/// Opens a store that may have been open here just now: a process that another test starts at that moment has its
/// lock for as long as it takes to become another program.
///
/// # Errors
/// As [`Store::open`].
pub fn opened(folder: &Path, limits: &config::Store) -> Result<Store, OpenError> {
    let mut opened = Store::open(folder, limits);
    wait_until("the folder is free", || {
        let taken = matches!(&opened, Err(OpenError::InUse { .. }));
        if taken {
            opened = Store::open(folder, limits);
        }
        !taken
    });
    opened
}
