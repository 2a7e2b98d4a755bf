//! What is imported: a file, or standard input, that is read twice and must be the same both times.

use std::fs::File;
use std::io::{self, Read, Seek as _, SeekFrom};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use anyhow::Context as _;

/// Most bytes of what can be read only once, and is held: a file is not.
const LARGEST_STREAM: u64 = 256 * 1024 * 1024;

/// What is imported, to be read twice.
#[derive(Debug)]
pub struct Input {
    /// As messages call it.
    pub name: String,
    source: Source,
}

#[derive(Debug)]
enum Source {
    /// Open all the while, so that another file of its name changes nothing; and how it was before it was read.
    File(File, Stamp),
    /// Standard input or a pipe, which can be read only once.
    Held(Vec<u8>),
}

/// What changes with the bytes of a file: its length, and when those and its entry were last changed, in seconds and
/// nanoseconds.
type Stamp = (u64, (i64, i64), (i64, i64));

fn stamp(file: &File) -> io::Result<Stamp> {
    let meta = file.metadata()?;
    Ok((meta.len(), (meta.mtime(), meta.mtime_nsec()), (meta.ctime(), meta.ctime_nsec())))
}

impl Input {
    /// `-` is standard input.
    ///
    /// # Errors
    /// It cannot be read, or is no file and larger than what is held.
    pub fn of(path: &Path) -> anyhow::Result<Self> {
        if path == Path::new("-") {
            let name = "standard input".to_owned();
            return Ok(Self { source: Source::Held(held(&name, io::stdin())?), name });
        }
        let name = path.display().to_string();
        let unreadable = || format!("{name} cannot be read");
        let file = File::open(path).with_context(unreadable)?;
        let source = match file.metadata().with_context(unreadable)?.is_file() {
            true => {
                let stamp = stamp(&file).with_context(unreadable)?;
                Source::File(file, stamp)
            }
            false => Source::Held(held(&name, file)?),
        };
        Ok(Self { name, source })
    }

    /// Its bytes from the first on; of several readings at a time none would be whole.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn open(&self) -> anyhow::Result<Box<dyn Read + '_>> {
        Ok(match &self.source {
            Source::Held(bytes) => Box::new(bytes.as_slice()),
            Source::File(file, _) => {
                let (mut from, unreadable) = (file, || format!("{} cannot be read", self.name));
                from.seek(SeekFrom::Start(0)).with_context(unreadable)?;
                Box::new(from)
            }
        })
    }

    /// Refuses a file that was changed since it was opened.
    ///
    /// # Errors
    /// It was, or cannot be looked at.
    pub fn unchanged(&self) -> anyhow::Result<()> {
        match &self.source {
            Source::File(file, before) if stamp(file)? != *before => Err(self.changed()),
            _ => Ok(()),
        }
    }

    /// It was changed.
    #[must_use]
    pub fn changed(&self) -> anyhow::Error {
        anyhow::anyhow!("{} was changed while it was read; import it again", self.name)
    }
}

fn held(name: &str, from: impl Read) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = from.take(LARGEST_STREAM + 1).read_to_end(&mut bytes);
    read.with_context(|| format!("{name} cannot be read"))?;
    let most = LARGEST_STREAM / 1024 / 1024;
    anyhow::ensure!(
        bytes.len() as u64 <= LARGEST_STREAM,
        "{name} has more than {most} MiB; write it into a file, which is read from the disk, and import that"
    );
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 11 CCR 7101: a record names the digest of the file that it came from, so that nothing may come from another.
    #[test]
    fn a_file_that_is_written_to_is_refused_and_one_that_takes_its_name_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("crm.csv");
        std::fs::write(&path, "before").unwrap();
        let input = Input::of(&path).unwrap();
        let read = || {
            let mut text = String::new();
            input.open().unwrap().read_to_string(&mut text).unwrap();
            text
        };
        assert_eq!((read(), read()), ("before".into(), "before".into()));
        input.unchanged().unwrap();
        let other = folder.path().join("other.csv");
        std::fs::write(&other, "another").unwrap();
        std::fs::rename(&other, &path).unwrap();
        assert_eq!(read(), "before");
        let input = Input::of(&path).unwrap();
        input.unchanged().unwrap();
        std::fs::write(&path, "another, and longer").unwrap();
        let said = input.unchanged().unwrap_err().to_string();
        assert!(said.ends_with("crm.csv was changed while it was read; import it again"), "{said}");
    }
}
