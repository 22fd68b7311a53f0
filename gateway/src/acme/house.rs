//! What is kept of orders is kept in a directory; challenges are shown by this process. The lock of the directory is held while orders
//! run, so that processes that share it do not ask for the same.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use mesh_acme::{House, Issued, Kept, Name};
use mesh_core::acme::{Failure, KeptFailure, Trouble};
use mesh_core::model::Proof;

use super::storage::{self, Lock, Storage};
use super::{kept, local};
use crate::tls::challenges::{Challenges, Shows};

pub struct Folder {
    pub storage: Storage,
    pub challenges: Arc<Challenges>,
    lock: Mutex<Option<Lock>>,
}

impl Folder {
    pub fn new(storage: Storage, challenges: Arc<Challenges>) -> Folder {
        Folder { storage, challenges, lock: Mutex::default() }
    }

    fn set_lock(&self, lock: Option<Lock>) {
        *self.lock.lock().unwrap_or_else(PoisonError::into_inner) = lock;
    }

    fn path(&self, name: &Name) -> std::path::PathBuf {
        kept::path(&self.storage, &name.host, name.authority)
    }
}

/// Away from the runtime.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, String> {
    tokio::task::spawn_blocking(work).await.map_err(|error| error.to_string())
}

impl House for Folder {
    type Shown = Shows;

    async fn account(&self) -> Result<Option<Vec<u8>>, String> {
        let path = self.storage.account();
        let shown = path.display().to_string();
        blocking(move || storage::read(&path)).await?.map_err(|error| format!("{shown}: {error}"))
    }

    async fn keep_account(&self, account: Vec<u8>) -> Result<(), String> {
        let path = self.storage.account();
        blocking(move || storage::write(&path, &account, false)).await?.map_err(|error| error.to_string())
    }

    async fn show(&self, name: &Name, proof: Proof) -> Result<Shows, Failure> {
        match proof {
            Proof::File { token, text } => Ok(self.challenges.show_file(&token, &text)),
            Proof::Handshake { digest } => {
                let shown = self.challenges.show_handshake(&name.host, &digest);
                shown.map_err(|error| Failure::new(Trouble::Challenge, error))
            }
        }
    }

    async fn kept(&self, name: &Name) -> Kept {
        let (path, host) = (self.path(name), Arc::clone(&name.host));
        let read = move || Kept {
            certificate: kept::certificate(&path, &host, SystemTime::now()),
            failure: kept::failure(&path),
        };
        blocking(read).await.unwrap_or_default()
    }

    async fn prepare(&self, _: &Name) -> Result<(), Failure> {
        // What cannot be kept serves all the same, as long as this process lives.
        Ok(())
    }

    async fn keep(&self, name: &Name, issued: &Issued) -> Result<Option<String>, Failure> {
        let path = self.path(name);
        let pem = format!("{}{}", issued.private_key_pem, issued.chain_pem).into_bytes();
        let shown = path.display().to_string();
        let written = blocking(move || storage::write(&path, &pem, false)).await;
        let written = written.map_err(|error| Failure::new(Trouble::Storage, error))?;
        Ok(written.err().map(|error| format!("{shown}: {error}")))
    }

    async fn keep_failure(&self, name: &Name, failure: Option<KeptFailure>) -> Result<(), String> {
        let path = self.path(name);
        let kept = blocking(move || kept::keep_failure(&path, failure.as_ref())).await?;
        kept.map_err(|error| error.to_string())
    }

    async fn sign(&self, name: &Name) -> Result<Issued, Failure> {
        let (storage, host) = (self.storage.clone(), Arc::clone(&name.host));
        let signed = blocking(move || local::sign(&storage, &host, SystemTime::now())).await;
        signed.unwrap_or_else(|error| Err(Failure::new(Trouble::Storage, error)))
    }

    async fn lock(&self) -> Result<bool, String> {
        let storage = self.storage.clone();
        let told = |error: String| format!("{} cannot be used: {error}", self.storage.folder().display());
        let locked = blocking(move || storage.try_lock()).await.map_err(told)?;
        let lock = locked.map_err(|error| told(error.to_string()))?;
        let is_ours = lock.is_some();
        if is_ours {
            self.set_lock(lock);
        }
        Ok(is_ours)
    }

    fn unlock(&self) {
        self.set_lock(None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_account_that_cannot_be_read_is_not_taken_for_none() {
        let folder = tempfile::tempdir().unwrap();
        let house = Folder::new(Storage::new(folder.path().into(), "https://ca.example/dir"), Arc::default());
        assert_eq!(house.account().await, Ok(None));
        house.keep_account(b"kept".to_vec()).await.unwrap();
        assert_eq!(house.account().await, Ok(Some(b"kept".to_vec())));
        let path = house.storage.account();
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        assert!(house.account().await.unwrap_err().contains("account.json"));
    }
}
