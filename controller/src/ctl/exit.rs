//! Exit codes, as in `sysexits.h` and as `istioctl analyze` uses them.

/// Fine.
pub const OK: u8 = 0;
/// It could not be done.
pub const FAILURE: u8 = 1;
/// The command line is wrong.
pub const USAGE: u8 = 64;
/// Something that was given cannot be read.
pub const BAD_DATA: u8 = 65;
/// It was done, and problems were found.
pub const FOUND_PROBLEMS: u8 = 79;

/// An error with an exit code of its own.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    #[error("{0}")]
    Usage(String),
    #[error("{0}")]
    BadData(String),
}

/// Of an error that ended a command.
#[must_use]
pub fn code(error: &anyhow::Error) -> u8 {
    match error.downcast_ref::<Failure>() {
        Some(Failure::Usage(_)) => USAGE,
        Some(Failure::BadData(_)) => BAD_DATA,
        None => FAILURE,
    }
}
