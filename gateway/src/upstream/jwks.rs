//! Keys of those who issue tokens: read from a JSON Web Key Set (RFC 7517), or fetched from where the issuer has it. Fetching is
//! for the control runtime; requests look at what is there, and wait only for the first answer.

mod fetch;
mod key;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use mesh_core::model::KeySource;
use tokio::sync::watch;

use key::Key;

pub use key::Algorithm;

/// Between two fetches that succeed, as istiod.
const REFRESH: Duration = Duration::from_secs(20 * 60);
/// After a fetch that failed: doubled each time, up to the second value.
const AGAIN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// The keys of an issuer.
#[derive(Debug, Default)]
pub struct Keys(Vec<Key>);

/// Why a signature is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mismatch {
    /// No key has this id, or is for this algorithm.
    NoKey,
    Signature,
}

impl Keys {
    /// Of the text of a key set. Keys that cannot be used are passed over; that none can is an error.
    pub fn read(text: &[u8]) -> Result<Keys, String> {
        let set: serde_json::Value =
            serde_json::from_slice(text).map_err(|error| format!("it is not JSON: {error}"))?;
        let keys = set.get("keys").and_then(serde_json::Value::as_array).ok_or("it has no list `keys`")?;
        let mut usable = Vec::with_capacity(keys.len());
        let mut reason = "it is empty".to_owned();
        for (index, key) in keys.iter().enumerate() {
            match Key::read(key) {
                Ok(key) => usable.push(key),
                Err(why) => reason = format!("keys[{index}]: {why}"),
            }
        }
        if usable.is_empty() { Err(format!("it has no usable key; {reason}")) } else { Ok(Keys(usable)) }
    }

    /// Whether one of them made this signature (base64url). `id`: the one that the token names.
    pub fn verify(
        &self,
        id: Option<&str>,
        algorithm: Algorithm,
        message: &[u8],
        signature: &str,
    ) -> Result<(), Mismatch> {
        let signature = URL_SAFE_NO_PAD.decode(signature);
        let mut mismatch = Mismatch::NoKey;
        for key in &self.0 {
            let named = id.zip(key.id.as_deref()).is_none_or(|(wanted, has)| wanted == has);
            if named && key.fits(algorithm) {
                mismatch = Mismatch::Signature;
                let good = signature.as_ref().is_ok_and(|bytes| key.verify(algorithm, message, bytes).is_ok());
                if good {
                    return Ok(());
                }
            }
        }
        Err(mismatch)
    }
}

/// The keys of one source, as they are now.
#[derive(Debug)]
pub struct KeyCell {
    keys: ArcSwapOption<Keys>,
    /// True once something is known: keys, or that there are none.
    settled: watch::Sender<bool>,
    /// Why there are none, or no newer ones.
    trouble: Mutex<Option<String>>,
}

impl KeyCell {
    fn new(known: Option<Result<Keys, String>>) -> KeyCell {
        let settled = known.is_some();
        let (keys, trouble) = match known {
            Some(Ok(keys)) => (Some(Arc::new(keys)), None),
            Some(Err(why)) => (None, Some(why)),
            None => (None, None),
        };
        KeyCell { keys: ArcSwapOption::new(keys), settled: watch::Sender::new(settled), trouble: Mutex::new(trouble) }
    }

    /// None: they could not be fetched, or not within that time. Who comes before the first answer waits for it.
    pub async fn get(&self, patience: Duration) -> Option<Arc<Keys>> {
        if let Some(keys) = self.keys.load_full() {
            return Some(keys);
        }
        let mut settled = self.settled.subscribe();
        let _ = tokio::time::timeout(patience, settled.wait_for(|settled| *settled)).await;
        self.keys.load_full()
    }

    fn note(&self, fetched: Result<Keys, String>) -> bool {
        let good = fetched.is_ok();
        let trouble = match fetched {
            Ok(keys) => {
                self.keys.store(Some(Arc::new(keys)));
                None
            }
            Err(why) => Some(why),
        };
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
        self.settled.send_replace(true);
        good
    }
}

/// All sources that are in use.
#[derive(Debug, Default)]
pub struct KeyStore(HashMap<KeySource, Arc<KeyCell>>);

impl KeyStore {
    /// The cell of a source; from now on it is kept fresh while somebody has it. To be called on the control runtime.
    pub fn cell(&mut self, source: &KeySource, timeout: Duration) -> Arc<KeyCell> {
        if let Some(cell) = self.0.get(source) {
            return cell.clone();
        }
        let cell = Arc::new(KeyCell::new(match source {
            KeySource::Inline(text) => Some(Keys::read(text.as_bytes())),
            // Whoever reads the configuration said why.
            KeySource::Nowhere => Some(Ok(Keys::default())),
            KeySource::Url(_) | KeySource::Issuer(_) => None,
        }));
        if matches!(source, KeySource::Url(_) | KeySource::Issuer(_)) {
            tokio::spawn(keep_fresh(source.clone(), Arc::downgrade(&cell), timeout));
        }
        self.0.insert(source.clone(), cell.clone());
        cell
    }

    /// Lets go of sources that nobody has any more.
    pub fn tidy(&mut self) {
        self.0.retain(|_, cell| Arc::strong_count(cell) > 1);
    }

    /// What is wrong with a source.
    pub fn trouble(&self, source: &KeySource) -> Option<String> {
        self.0.get(source)?.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Until nobody has the cell.
async fn keep_fresh(source: KeySource, cell: Weak<KeyCell>, timeout: Duration) {
    let mut pause = AGAIN.0;
    loop {
        let fetched = tokio::time::timeout(timeout, fetch::keys(&source)).await;
        let fetched = fetched.unwrap_or_else(|_| Err(format!("no answer within {timeout:?}")));
        let Some(cell) = cell.upgrade() else { return };
        if let Err(why) = &fetched {
            tracing::warn!(?source, why, "keys could not be fetched");
        }
        let wait = if cell.note(fetched) {
            pause = AGAIN.0;
            REFRESH
        } else {
            let wait = pause;
            pause = (pause * 2).min(AGAIN.1);
            wait
        };
        drop(cell);
        tokio::time::sleep(wait).await;
    }
}

#[cfg(test)]
#[path = "jwks_tests.rs"]
mod tests;
