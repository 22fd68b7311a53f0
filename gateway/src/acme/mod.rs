//! Certificates that this process orders for itself (ACME): a driver on the control runtime that has them ordered (crate `mesh-acme`), keeps
//! what comes of it in a directory, and tells the store.

mod driver;
mod house;
mod kept;
mod local;
mod metrics;
mod status;
mod storage;

use std::path::PathBuf;

pub use driver::Driver;
pub use metrics::{ExpiryCollector, source_name};
pub use status::{AcmeHandle, AcmeStatus};

/// Who is asked for certificates, as whom, and where what comes of it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AcmeOptions {
    pub ca: mesh_acme::Options,
    pub storage: PathBuf,
}
