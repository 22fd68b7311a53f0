//! What only the sidecar has: the rules that lead a pod's connections to it.

pub mod redirect;
