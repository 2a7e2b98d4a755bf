//! A listening Unix socket: its file is put in place with its permissions, and taken away at the end.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use anyhow::Context as _;

/// A socket's file; removed when dropped, unless somebody has put another in its place.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    inode: (u64, u64),
}

impl SocketFile {
    /// The file of a socket that another process bound and hands over.
    ///
    /// # Errors
    /// There is none.
    pub fn adopted(path: &Path) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), inode: inode(path)? })
    }

    /// Leaves the file to another process.
    pub fn leave(mut self) {
        self.inode = (0, 0);
    }

    /// Where it lies.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if inode(&self.path).is_ok_and(|inode| inode == self.inode) {
            // A file that stays is replaced at the next start.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Binds a socket for `cores` cores, which share its line of connections.
///
/// What a former process left behind is replaced; a socket that somebody listens on, or a file of another
/// kind, is not.
///
/// # Errors
/// Says which path, what is there, and what to do.
pub fn bind(path: &Path, mode: u32, cores: usize) -> anyhow::Result<(SocketFile, Vec<UnixListener>)> {
    let shown = path.display();
    refuse_others(path)?;
    // Under another name until its permissions are right: at no time may more connect than should.
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let new = PathBuf::from(new);
    let cannot = || format!("cannot listen on unix:{shown}; check that the folder exists and may be written");
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error).with_context(cannot),
        _ => {}
    }
    let first = UnixListener::bind(&new).with_context(cannot)?;
    fs::set_permissions(&new, fs::Permissions::from_mode(mode)).with_context(cannot)?;
    let inode = inode(&new).with_context(cannot)?;
    fs::rename(&new, path).with_context(cannot)?;
    let file = SocketFile { path: path.to_owned(), inode };
    first.set_nonblocking(true).with_context(cannot)?;
    let mut sockets = Vec::with_capacity(cores);
    for _ in 1..cores.max(1) {
        sockets.push(first.try_clone().with_context(cannot)?);
    }
    sockets.push(first);
    Ok((file, sockets))
}

/// Fails when something is at the path that is not a stale socket.
fn refuse_others(path: &Path) -> anyhow::Result<()> {
    let shown = path.display();
    let there = match fs::symlink_metadata(path) {
        Ok(there) => there,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).with_context(|| format!("cannot listen on unix:{shown}")),
    };
    anyhow::ensure!(
        there.file_type().is_socket(),
        "cannot listen on unix:{shown}: a file that is no socket lies there; remove it, or choose another path"
    );
    match UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
        Ok(_) => anyhow::bail!(
            "cannot listen on unix:{shown}: another process listens there already (see `ss -lxp`); choose \
             another path, or stop it first"
        ),
        Err(error) => Err(error).with_context(|| {
            format!("cannot listen on unix:{shown}: who listens there cannot be found out; remove the file")
        }),
    }
}

fn inode(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|meta| (meta.dev(), meta.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("o.sock");
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists(), "a socket file outlives its listener");
        let (file, sockets) = bind(&path, 0o600, 2).unwrap();
        assert_eq!(sockets.len(), 2);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(UnixStream::connect(&path).is_ok());
        let error = bind(&path, 0o600, 1).unwrap_err().to_string();
        assert!(error.contains("another process listens there"), "{error}");
        drop(file);
        assert!(!path.exists() && !folder.path().join("o.sock.new").exists());
    }

    #[test]
    fn what_is_no_socket_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notes.txt");
        fs::write(&path, "mine").unwrap();
        let error = bind(&path, 0o600, 1).unwrap_err().to_string();
        assert!(error.contains("no socket lies there"), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
    }

    /// An upgrade's new process has the path by then.
    #[test]
    fn a_file_that_another_has_put_in_its_place_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("o.sock");
        let (file, _sockets) = bind(&path, 0o600, 1).unwrap();
        fs::remove_file(&path).unwrap();
        let _other = UnixListener::bind(&path).unwrap();
        drop(file);
        assert!(path.exists());
    }
}
