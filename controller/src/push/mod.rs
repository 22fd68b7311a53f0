//! Discovery: who a proxy is, what it is sent, and how far each of them is.

mod ending;
mod heard;
mod identity;
mod lender;
mod proxies;
mod secret_review;
mod sent;
mod server;
mod token_review;

pub use ending::{Ending, Endings};
pub use identity::{Authenticate, Authenticated, Identity, Unauthenticated};
pub use lender::{Lender, Replicas};
pub use proxies::{KindStatus, Proxies, ProxyStatus};
pub use secret_review::{Account, Authorize, SecretReviewer};
pub use sent::Sent;
pub use server::{Discovery, KEEP_ALIVE, serve};
pub use token_review::{AUDIENCE, TokenReviewer};
