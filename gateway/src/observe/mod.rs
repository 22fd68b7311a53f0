//! What the gateway tells about requests: response flags, metrics, access log. The engine hands over one
//! [`RequestRecord`] per request; nothing in here decides anything about traffic.

mod flags;
mod observer;
mod record;

pub use flags::ResponseFlags;
pub use observer::Observer;
pub use record::{RecordHeaders, RequestRecord};
