//! The files of one directory, as far as a log needs them: a trait, so that tests can let them fail, and the real ones.

#[cfg(test)]
pub(super) mod faulty;

use std::fmt;
use std::fs::{self, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use crate::error::Error;

/// The files of a directory.
pub(super) trait Files: Send + Sync + fmt::Debug + 'static {
    type File: File;

    /// The names of all files, in any order.
    fn list(&self) -> io::Result<Vec<String>>;

    /// All that is in a file.
    fn read(&self, name: &str) -> io::Result<Vec<u8>>;

    /// A new file. There is none of that name.
    fn create(&self, name: &str) -> io::Result<Self::File>;

    /// A file that is there.
    fn open(&self, name: &str) -> io::Result<Self::File>;

    fn remove(&self, name: &str) -> io::Result<()>;

    /// Makes the names safe from a power cut: which files there are, not what is in them.
    fn sync_names(&self) -> io::Result<()>;
}

/// One file, which grows at its end.
pub(super) trait File: Send + Sync + fmt::Debug + 'static {
    /// Adds bytes at the end. After an error some of them may be there.
    fn append(&self, bytes: &[u8]) -> io::Result<()>;

    /// Cuts off what is behind so many bytes.
    fn truncate(&self, size: u64) -> io::Result<()>;

    /// Makes what is in the file safe from a power cut. After an error nothing is known of what was added since the last
    /// time, whatever a later call says.
    fn sync(&self) -> io::Result<()>;
}

/// A directory of the operating system, for as long as this lives that of this process alone.
#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    /// Its lock ends with it, or with the process.
    _lock: fs::File,
}

/// The file whose lock says that a process is at work.
const LOCK_NAME: &str = "lock";

impl Directory {
    /// Makes the directory if it is not there.
    ///
    /// # Errors
    /// It cannot be made or written to, or another process has it.
    pub(super) fn open(path: &Path) -> Result<Self, Error> {
        let failed = |what: &str, error: io::Error| {
            Error::unavailable(format!(
                "{what} the history's directory {}: {error}; give a directory on a local disk that the process may write to",
                path.display()
            ))
        };
        fs::create_dir_all(path).map_err(|error| failed("cannot make", error))?;
        let lock = OpenOptions::new().write(true).create(true).truncate(false).open(path.join(LOCK_NAME));
        let lock = lock.map_err(|error| failed("cannot write to", error))?;
        match lock.try_lock() {
            Ok(()) => Ok(Directory { path: path.to_owned(), _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(Error::unavailable(format!(
                "the history's directory {} is in use by another process: stop that one, or give each a directory of its own",
                path.display()
            ))),
            Err(TryLockError::Error(error)) => Err(failed("cannot lock", error)),
        }
    }
}

impl Files for Directory {
    type File = fs::File;

    fn list(&self) -> io::Result<Vec<String>> {
        let names = fs::read_dir(&self.path)?.map(|entry| Ok(entry?.file_name().into_string().unwrap_or_default()));
        names.collect()
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        fs::read(self.path.join(name))
    }

    fn create(&self, name: &str) -> io::Result<fs::File> {
        OpenOptions::new().append(true).create_new(true).open(self.path.join(name))
    }

    fn open(&self, name: &str) -> io::Result<fs::File> {
        OpenOptions::new().append(true).open(self.path.join(name))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        match fs::remove_file(self.path.join(name)) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn sync_names(&self) -> io::Result<()> {
        fs::File::open(&self.path)?.sync_all()
    }
}

impl File for fs::File {
    fn append(&self, bytes: &[u8]) -> io::Result<()> {
        (&mut &*self).write_all(bytes)
    }

    fn truncate(&self, size: u64) -> io::Result<()> {
        self.set_len(size)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }
}
