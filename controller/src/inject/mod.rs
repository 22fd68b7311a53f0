//! Injection: whether a pod gets a sidecar, and the pod with it. Pure; the webhook and `meshctl inject` call it.
//!
//! `decide` has the table of labels, `selection` what the injector's settings say beside it; `wishes` reads what annotations ask for; `sidecar` fills the template of `deploy/sidecar`,
//! with `probes` and `metrics` for what of the application the sidecar answers for, and `overlay` for containers of the user's
//! own. Must not know how pods come here.

mod counters;
mod decide;
mod metrics;
mod objects;
mod overlay;
mod pod;
mod probes;
mod selection;
mod sidecar;
mod wishes;
mod workload;

pub use counters::Injections;
pub use decide::{Decision, NAMESPACE_LABEL, Namespace, Reason, decide, is_injected};
pub use objects::{Outcome, Refused, inject_object};
pub use pod::Pod;
pub use selection::{KEY, SETTINGS, Selection};
pub use sidecar::{Injected, PROXY, Refusal, Settings, has_native_sidecars, inject};
pub use wishes::is_quantity;
pub use workload::Workload;
