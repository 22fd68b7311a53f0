//! Exit codes, as in `sysexits.h` and as `istioctl analyze` uses them.

pub const OK: u8 = 0;
pub const FAILURE: u8 = 1;
pub const USAGE: u8 = 64;
pub const BAD_DATA: u8 = 65;
pub const FOUND_PROBLEMS: u8 = 79;
