//! The edge gateway's binary.

fn main() {}
