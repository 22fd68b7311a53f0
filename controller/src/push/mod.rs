//! Discovery: who a proxy is, what it is sent, and how far each of them is.

mod ending;
mod identity;
mod proxies;
mod server;
mod token_review;

pub use ending::{Ending, Endings};
pub use identity::{Authenticate, Authenticated, Identity, Unauthenticated};
pub use proxies::{KindStatus, Proxies, ProxyStatus, Refusal};
pub use server::{Discovery, serve};
pub use token_review::{AUDIENCE, TokenReviewer};
