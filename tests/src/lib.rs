//! What the end-to-end tests are made of, and the demo application that they and the quickstart share.

pub mod bookinfo;
