//! The control plane: it tells who should know what.
