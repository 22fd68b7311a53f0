//! What the gateway tells about requests: response flags, metrics, access log. The engine hands over one
//! [`RequestRecord`] per request; nothing in here decides anything about traffic.

mod access_log;
mod flags;
mod log_format;
mod log_value;
mod observer;
mod record;

pub use access_log::{AccessLog, LogSettings, LogTarget};
pub use flags::ResponseFlags;
pub use observer::Observer;
pub use record::{RecordHeaders, RequestRecord};

/// Name of this machine, empty if unknown.
#[must_use]
pub fn hostname() -> &'static str {
    static NAME: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    NAME.get_or_init(|| {
        let name = std::env::var("HOSTNAME").ok().filter(|name| !name.is_empty());
        name.or_else(|| std::fs::read_to_string("/proc/sys/kernel/hostname").ok())
            .map(|name| name.trim().to_owned())
            .unwrap_or_default()
    })
}
