//! Where log lines go: standard error, or a file that is opened again when a log rotator has moved it.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;

/// The file of this process; unset while lines go to standard error.
static FILE: OnceLock<LogFile> = OnceLock::new();

struct LogFile {
    path: PathBuf,
    open: ArcSwap<File>,
}

/// From now on lines go to a file, at its end. Only the first call in a process counts.
///
/// # Errors
/// When the file cannot be opened.
pub fn use_file(path: &Path) -> io::Result<()> {
    let file = LogFile { path: path.to_owned(), open: ArcSwap::from_pointee(open(path)?) };
    // Tests start many; as with the log itself, the first one wins.
    let _ = FILE.set(file);
    Ok(())
}

/// Opens the file anew by its name, so that lines follow a rotation. Nothing where lines go to standard error.
///
/// # Errors
/// When it cannot be opened; then lines go where they went before.
pub fn reopen() -> io::Result<()> {
    if let Some(file) = FILE.get() {
        file.open.store(Arc::new(open(&file.path)?));
    }
    Ok(())
}

/// Readable by the group, for those who collect logs.
fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).mode(0o640).open(path)
}

/// Says on standard error what the log's file cannot hold. Nothing where the log goes there itself: then nobody reads
/// either.
pub fn say_beside(line: &str) {
    if let Some(file) = FILE.get() {
        let _ = writeln!(io::stderr().lock(), "optgate: {}: {line}", file.path.display());
    }
}

/// Writes whole lines; for `tracing` and for access lines. Cheap to make.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sink;

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_all(bytes).map(|()| bytes.len())
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match FILE.get() {
            Some(file) => (&**file.open.load()).write_all(bytes),
            None => io::stderr().lock().write_all(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
