//! The control plane: it tells who should know what. Objects come from Kubernetes, are translated by `mesh-core` once for each
//! class of proxies, and go to the proxies by incremental discovery.

pub mod acme;
pub mod admin;
pub mod admit;
pub mod app;
pub mod ca;
pub mod crds;
pub mod ctl;
pub mod inject;
pub mod kube;
pub mod options;
pub mod push;
pub mod status;
