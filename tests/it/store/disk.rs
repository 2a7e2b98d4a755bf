//! A disk that can lose its power. `disk.c`, preloaded into a child, writes down what it does to the files of one
//! folder; [`Disk`] follows that log and says what is on the platter at any moment of it.
//!
//! The model is the one that POSIX leaves: what was written is in the system's memory (pages of 4 KiB); a sync of a
//! file puts its pages and its length on the platter; a name made, moved or removed is there once its folder was
//! synced. A sync that fails writes nothing and marks the pages as clean all the same, as Linux does (the "fsyncgate"
//! of PostgreSQL, 2018): a later sync that succeeds says nothing about them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use super::super::support::binary::{Binary, own_address, serving};
use super::super::support::proxy::Builder;
use super::super::support::random::Random;

const PAGE: usize = 4096;
const SECTOR: usize = 512;

/// What of the unsynced survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cut {
    /// Nothing.
    Synced,
    /// Any sector that was written, in any order, and any name.
    Mixed,
}

/// The layer, compiled once.
fn library() -> &'static Path {
    static BUILT: OnceLock<(tempfile::TempDir, PathBuf)> = OnceLock::new();
    let (_, path) = BUILT.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("disk.so");
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/store/disk.c");
        let built = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-Wall", "-o"])
            .arg(&path)
            .args([source, "-ldl", "-lpthread"])
            .output()
            .unwrap();
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        (folder, path)
    });
    path
}

/// Puts the layer under a command. Of the syncs of files that end in `.2`, `.1` fail from number `.0` on.
pub(super) fn preload(command: &mut Command, folder: &Path, log: &Path, fail: Option<(u64, u64, &str)>) {
    command.env("LD_PRELOAD", library()).env("OPTGATE_DISK_FOLDER", folder).env("OPTGATE_DISK_LOG", log);
    if let Some((first, count, ending)) = fail {
        command.env("OPTGATE_DISK_FAIL", format!("{first}:{count}:{ending}"));
    }
}

/// The program with this layer under its data folder, and its two addresses: visitors' and the admin's. Once the file that
/// `switch` names in its environment is there, the layer does what that says. `beside`: a folder for its log.
pub(super) fn serve(
    builder: Builder,
    beside: &Path,
    (switch, file): (&str, &Path),
) -> (Binary, SocketAddr, SocketAddr) {
    let (addr, admin) = (own_address(), own_address());
    let mut command = serving(&builder.write(), addr);
    command.args(["--admin", &admin.to_string()]);
    preload(&mut command, &builder.settings().data_dir, &beside.join("log"), None);
    command.env(switch, file);
    (Binary::of(command, addr, builder.into_dir()), addr, admin)
}

/// One thing that happened. Numbers are descriptors.
#[derive(Debug, Clone)]
pub(super) enum Event {
    Open {
        fd: i32,
        name: String,
        created: bool,
        emptied: bool,
        folder: bool,
    },
    Close(i32),
    Write {
        fd: i32,
        at: usize,
        bytes: Vec<u8>,
    },
    Truncate {
        fd: i32,
        length: usize,
    },
    Sync(i32),
    SyncFailed(i32),
    Unlink(String),
    Rename(String, String),
    Mkdir(String),
    /// On standard output.
    Say(String),
}

/// Reads a log; a killed process may have left its last record unfinished.
pub(super) fn events(log: &Path) -> Vec<Event> {
    let bytes = fs::read(log).unwrap();
    let mut rest = &bytes[..];
    let mut events = Vec::new();
    while let Some((head, after)) = rest.split_first_chunk::<24>() {
        let word = |at: usize| u32::from_ne_bytes(head[at..at + 4].try_into().unwrap());
        let long = |at: usize| u64::from_ne_bytes(head[at..at + 8].try_into().unwrap());
        let (fd, at) = (word(4).cast_signed(), usize::try_from(long(8)).unwrap());
        let Some((data, after)) = after.split_at_checked(usize::try_from(long(16)).unwrap()) else { break };
        let text = || String::from_utf8_lossy(data).into_owned();
        events.push(match word(0) {
            1 => {
                let [created, emptied, folder] = [1, 2, 4].map(|bit| at & bit != 0);
                Event::Open { fd, name: text(), created, emptied, folder }
            }
            2 => Event::Close(fd),
            3 => Event::Write { fd, at, bytes: data.to_vec() },
            4 => Event::Truncate { fd, length: at },
            5 => Event::Sync(fd),
            6 => Event::SyncFailed(fd),
            7 => Event::Unlink(text()),
            8 => {
                let both = text();
                let (from, to) = both.split_once('\0').unwrap();
                Event::Rename(from.into(), to.into())
            }
            9 => Event::Mkdir(text()),
            10 => Event::Say(text()),
            other => panic!("record {other} in the log of the disk"),
        });
        rest = after;
    }
    events
}

#[derive(Debug, Clone, Default)]
struct File {
    /// As programs see it.
    memory: Vec<u8>,
    platter: Vec<u8>,
    /// Pages that a sync would write.
    dirty: BTreeSet<usize>,
    /// The shortest it was since its length was last on the platter.
    shortest: usize,
}

impl File {
    fn write(&mut self, at: usize, bytes: &[u8]) {
        if self.memory.len() < at + bytes.len() {
            self.memory.resize(at + bytes.len(), 0);
        }
        self.memory[at..at + bytes.len()].copy_from_slice(bytes);
        self.dirty.extend(at / PAGE..=(at + bytes.len() - 1) / PAGE);
    }

    fn truncate(&mut self, length: usize) {
        self.memory.resize(length, 0);
        self.shortest = self.shortest.min(length);
        self.dirty.retain(|page| page * PAGE < length);
    }

    fn sync(&mut self) {
        self.put_length();
        for page in std::mem::take(&mut self.dirty) {
            self.put(page * PAGE, PAGE);
        }
    }

    /// The system lets go of what it could not write.
    fn sync_failed(&mut self, cut: Cut, random: &mut Random) {
        if cut == Cut::Mixed {
            self.write_back(random);
        }
        self.dirty.clear();
    }

    /// What the system does when it pleases.
    fn write_back(&mut self, random: &mut Random) {
        if random.below(2) == 0 {
            self.put_length();
        }
        for page in self.dirty.clone() {
            for sector in 0..PAGE / SECTOR {
                if random.below(2) == 0 {
                    self.put(page * PAGE + sector * SECTOR, SECTOR);
                }
            }
        }
    }

    fn put_length(&mut self) {
        self.platter.truncate(self.shortest);
        self.platter.resize(self.memory.len(), 0);
        self.shortest = self.memory.len();
    }

    fn put(&mut self, at: usize, length: usize) {
        let end = (at + length).min(self.memory.len());
        if at < end {
            if self.platter.len() < end {
                self.platter.resize(end, 0);
            }
            self.platter[at..end].copy_from_slice(&self.memory[at..end]);
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Entry {
    Folder,
    File(usize),
}

#[derive(Debug, Clone)]
enum Naming {
    Put(String, Entry),
    Remove(String),
    Move(String, String),
}

impl Naming {
    /// The folder that must be synced for it to last.
    fn folder(&self) -> &str {
        let (Self::Put(name, _) | Self::Remove(name) | Self::Move(_, name)) = self;
        folder_of(name)
    }

    fn apply(&self, names: &mut BTreeMap<String, Entry>) {
        match self {
            Self::Put(name, entry) => drop(names.insert(name.clone(), *entry)),
            Self::Remove(name) => drop(names.remove(name)),
            Self::Move(from, to) => {
                if let Some(entry) = names.remove(from) {
                    names.insert(to.clone(), entry);
                }
            }
        }
    }
}

fn folder_of(name: &str) -> &str {
    name.rsplit_once('/').map_or(".", |(folder, _)| folder)
}

#[derive(Debug, Clone)]
enum Opened {
    Folder(String),
    File(usize),
}

/// A folder on a disk, as programs see it and as a power cut would leave it.
#[derive(Debug, Clone)]
pub(super) struct Disk {
    cut: Cut,
    random: u64,
    files: Vec<File>,
    names: BTreeMap<String, Entry>,
    lasting: BTreeMap<String, Entry>,
    namings: Vec<Naming>,
    open: HashMap<i32, Opened>,
    /// Syncs of files with this ending do nothing: what the checks must find.
    deaf: Option<&'static str>,
}

impl Disk {
    /// A disk with a folder's files, all of them on the platter.
    pub(super) fn of(folder: &Path, cut: Cut, seed: u64) -> Self {
        let mut disk = Self {
            cut,
            random: seed | 1,
            files: Vec::new(),
            names: BTreeMap::new(),
            lasting: BTreeMap::new(),
            namings: Vec::new(),
            open: HashMap::new(),
            deaf: None,
        };
        disk.fill(folder, "");
        disk.lasting = disk.names.clone();
        disk
    }

    /// The same disk, if it ignored syncs of files with this ending.
    pub(super) fn deaf_to(mut self, ending: &'static str) -> Self {
        self.deaf = Some(ending);
        self
    }

    fn fill(&mut self, folder: &Path, below: &str) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = format!("{below}{}", path.file_name().unwrap().to_str().unwrap());
            if path.is_dir() {
                self.names.insert(name.clone(), Entry::Folder);
                self.fill(&path, &format!("{name}/"));
            } else if !name.ends_with("-shm") {
                let bytes = fs::read(&path).unwrap();
                let length = bytes.len();
                let platter = bytes.clone();
                self.files.push(File { memory: bytes, platter, dirty: BTreeSet::new(), shortest: length });
                self.names.insert(name, Entry::File(self.files.len() - 1));
            }
        }
    }

    /// The process ended, the system did not.
    pub(super) fn process_ended(&mut self) {
        self.open.clear();
    }

    fn with_random<T>(&mut self, act: impl FnOnce(&mut Self, &mut Random) -> T) -> T {
        let mut random = Random(self.random);
        let result = act(self, &mut random);
        self.random = random.0;
        result
    }

    fn file(&mut self, fd: i32) -> &mut File {
        match self.open.get(&fd) {
            Some(Opened::File(file)) => &mut self.files[*file],
            other => panic!("descriptor {fd} is {other:?}"),
        }
    }

    /// One thing more happened.
    pub(super) fn follow(&mut self, event: &Event) {
        match event {
            Event::Open { fd, name, created, emptied, folder } => {
                let opened = if *folder {
                    Opened::Folder(name.clone())
                } else {
                    Opened::File(self.opened(name, *created, *emptied))
                };
                self.open.insert(*fd, opened);
            }
            Event::Close(fd) => drop(self.open.remove(fd)),
            Event::Write { fd, at, bytes } => {
                let cut = self.cut;
                self.with_random(|disk, random| {
                    let file = disk.file(*fd);
                    file.write(*at, bytes);
                    if cut == Cut::Mixed && random.below(8) == 0 {
                        file.write_back(random);
                    }
                });
            }
            Event::Truncate { fd, length } => self.file(*fd).truncate(*length),
            Event::Sync(fd) => self.sync(*fd),
            Event::SyncFailed(fd) => {
                let cut = self.cut;
                self.with_random(|disk, random| {
                    if matches!(disk.open.get(fd), Some(Opened::File(_))) {
                        disk.file(*fd).sync_failed(cut, random);
                    }
                });
            }
            Event::Unlink(name) => self.rename(Naming::Remove(name.clone())),
            Event::Rename(from, to) => self.rename(Naming::Move(from.clone(), to.clone())),
            Event::Mkdir(name) => self.rename(Naming::Put(name.clone(), Entry::Folder)),
            Event::Say(_) => {}
        }
    }

    fn opened(&mut self, name: &str, created: bool, emptied: bool) -> usize {
        if created {
            self.files.push(File::default());
            self.rename(Naming::Put(name.to_owned(), Entry::File(self.files.len() - 1)));
        }
        let Some(Entry::File(file)) = self.names.get(name) else { panic!("{name} was never made") };
        let file = *file;
        if emptied {
            self.files[file].truncate(0);
        }
        file
    }

    fn rename(&mut self, naming: Naming) {
        naming.apply(&mut self.names);
        self.namings.push(naming);
    }

    fn sync(&mut self, fd: i32) {
        match self.open[&fd].clone() {
            Opened::Folder(folder) => {
                let (synced, rest) =
                    std::mem::take(&mut self.namings).into_iter().partition(|n| n.folder() == folder);
                self.namings = rest;
                let synced: Vec<Naming> = synced;
                synced.iter().for_each(|naming| naming.apply(&mut self.lasting));
            }
            Opened::File(file) => {
                let heard = |(name, entry): (&String, &Entry)| {
                    *entry == Entry::File(file) && self.deaf.is_some_and(|ending| name.ends_with(ending))
                };
                if !self.names.iter().any(heard) {
                    self.files[file].sync();
                }
            }
        }
    }

    /// What is left when the power goes now, written into an empty folder.
    pub(super) fn cut_power(&self, into: &Path) {
        let mut left = self.clone();
        if self.cut == Cut::Mixed {
            left.with_random(|disk, random| {
                disk.files.iter_mut().for_each(|file| file.write_back(random));
                for naming in std::mem::take(&mut disk.namings) {
                    if random.below(2) == 0 {
                        naming.apply(&mut disk.lasting);
                    }
                }
            });
        }
        // A folder sorts before what is in it.
        for (name, entry) in &left.lasting {
            let path = into.join(name);
            match entry {
                _ if !path.parent().is_some_and(Path::is_dir) => {}
                Entry::Folder => fs::create_dir(path).unwrap(),
                Entry::File(file) => fs::write(path, &left.files[*file].platter).unwrap(),
            }
        }
    }
}

/// The model is worth what it can tell apart.
#[test]
fn the_disk_keeps_what_was_synced_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("old"), "old").unwrap();
    let mut disk = Disk::of(folder.path(), Cut::Synced, 1);
    let open = |fd, name: &str, created, folder| Event::Open {
        fd,
        name: name.into(),
        created,
        emptied: false,
        folder,
    };
    let write = |fd, at, text: &str| Event::Write { fd, at, bytes: text.as_bytes().to_vec() };
    let left = |disk: &Disk| {
        let into = tempfile::tempdir().unwrap();
        disk.cut_power(into.path());
        let names = fs::read_dir(into.path()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
        let text = |name: String| (name.clone(), fs::read_to_string(into.path().join(name)).unwrap());
        names.map(text).collect::<BTreeMap<_, _>>()
    };
    let is = |pairs: &[(&str, &str)]| pairs.iter().map(|(n, t)| ((*n).to_owned(), (*t).to_owned())).collect();
    for event in
        [open(3, "old", false, false), write(3, 3, "er"), open(4, "new", true, false), write(4, 0, "new")]
    {
        disk.follow(&event);
    }
    assert_eq!(left(&disk), is(&[("old", "old")]));
    disk.follow(&Event::Sync(3));
    disk.follow(&Event::Sync(4));
    assert_eq!(left(&disk), is(&[("old", "older")]), "a new file whose folder was not synced");
    for event in [open(5, ".", false, true), Event::Sync(5), Event::Unlink("old".into())] {
        disk.follow(&event);
    }
    assert_eq!(left(&disk), is(&[("new", "new"), ("old", "older")]));
    // A sync that fails, and one after it that does not: what was written before it stays lost, with its page.
    disk.follow(&write(4, 0, "NEW"));
    disk.follow(&Event::SyncFailed(4));
    disk.follow(&Event::Sync(4));
    disk.follow(&Event::Sync(5));
    assert_eq!(left(&disk), is(&[("new", "new")]));
    disk.follow(&write(4, 3, "er"));
    disk.follow(&Event::Sync(4));
    assert_eq!(left(&disk), is(&[("new", "NEWer")]), "the page was written anew");
    disk.follow(&Event::Rename("new".into(), "moved".into()));
    disk.follow(&Event::Truncate { fd: 4, length: 1 });
    disk.follow(&write(4, 1, "ext"));
    assert_eq!(left(&disk), is(&[("new", "NEWer")]));
    disk.follow(&Event::Sync(4));
    disk.follow(&Event::Sync(5));
    assert_eq!(left(&disk), is(&[("moved", "Next")]));
}
