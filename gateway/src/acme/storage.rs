//! The directory in which accounts and certificates are kept: whole files, for their owner alone, and one process at a time that
//! orders.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use crate::tls::provider::{hex, sha256};

/// See the module.
#[derive(Clone, Debug)]
pub struct Storage {
    folder: PathBuf,
    /// Of the CA, by its directory: what another one gave is not this one's.
    ca: String,
}

/// Held by the process that orders; the kernel takes it back when the process ends, however it does.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Storage {
    #[must_use]
    pub fn new(folder: PathBuf, directory: &str) -> Storage {
        let host = directory.split("://").nth(1).and_then(|rest| rest.split('/').next()).unwrap_or_default();
        let hash = hex(&sha256(directory.as_bytes())).chars().take(8).collect::<String>();
        Storage { folder, ca: format!("{}-{hash}", file_name(host)) }
    }

    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// `NAME/account.json`
    #[must_use]
    pub fn account(&self) -> PathBuf {
        self.folder.join(&self.ca).join("account.json")
    }

    /// Key and chain in one file, so that they are never of two orders.
    #[must_use]
    pub fn certificate(&self, name: &str) -> PathBuf {
        self.folder.join(&self.ca).join("certificates").join(format!("{}.pem", file_name(name)))
    }

    /// The same of the CA of this machine.
    #[must_use]
    pub fn local_certificate(&self, name: &str) -> PathBuf {
        self.folder.join("local").join("certificates").join(format!("{}.pem", file_name(name)))
    }

    /// Key and certificate of the CA of this machine.
    #[must_use]
    pub fn local_root(&self) -> (PathBuf, PathBuf) {
        let folder = self.folder.join("local");
        (folder.join("root.key"), folder.join("root.pem"))
    }

    /// None: another process has it.
    pub fn try_lock(&self) -> io::Result<Option<Lock>> {
        make_folder(&self.folder)?;
        let path = self.folder.join("lock");
        let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Lock { _file: file })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

/// None: there is no such file.
pub fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// All of it or nothing, also when the machine stops in the middle of it. `public`: others may read it.
pub fn write(path: &Path, bytes: &[u8], public: bool) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    make_folder(folder)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let beside = folder.join(format!(".{name}.{}", std::process::id()));
    let written = write_new(&beside, bytes, public).and_then(|()| std::fs::rename(&beside, path));
    if written.is_err() {
        let _ = std::fs::remove_file(&beside);
        return written;
    }
    // The name, too, is to survive.
    File::open(folder)?.sync_all()
}

fn write_new(path: &Path, bytes: &[u8], public: bool) -> io::Result<()> {
    // A rest of a process that was killed, which had the same number.
    let _ = std::fs::remove_file(path);
    let mode = if public { 0o644 } else { 0o600 };
    let mut file = OpenOptions::new().create_new(true).write(true).mode(mode).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn make_folder(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// Names of hosts as they are; whatever else there may be in hexadecimal.
fn file_name(name: &str) -> String {
    let mut safe = String::with_capacity(name.len());
    for (index, byte) in name.bytes().enumerate() {
        match byte {
            b'.' if index == 0 => safe.push_str("%2e"),
            b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' => safe.push(char::from(byte)),
            other => safe.push_str(&format!("%{other:02x}")),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn what_is_kept_is_for_its_owner_alone_and_whole() {
        let folder = tempfile::tempdir().unwrap();
        let storage = Storage::new(folder.path().join("a/b"), "https://ca.example/dir");
        let path = storage.certificate("a.example");
        assert_eq!(read(&path).unwrap(), None);
        write(&path, b"one", false).unwrap();
        write(&path, b"two", false).unwrap();
        assert_eq!(read(&path).unwrap().as_deref(), Some(&b"two"[..]));
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(path.parent().unwrap()), mode(storage.folder())), (0o600, 0o700, 0o700));
        assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "nothing is left beside it");
        assert_ne!(Storage::new(folder.path().into(), "https://ca.example/other").certificate("a.example"), path);
    }

    #[test]
    fn names_lead_nowhere_else() {
        assert_eq!(file_name("a.example"), "a.example");
        assert_eq!(file_name("../x"), "%2e.%2fx");
        assert_eq!(file_name("::1"), "%3a%3a1");
    }

    #[test]
    fn one_orders_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let storage = Storage::new(folder.path().into(), "https://ca.example/dir");
        let lock = storage.try_lock().unwrap();
        assert!(lock.is_some() && storage.try_lock().unwrap().is_none());
        drop(lock);
        assert!(storage.try_lock().unwrap().is_some());
    }
}
