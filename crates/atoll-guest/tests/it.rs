//! Drives the real binary over its socket.
