//! The proxy at work, over loopback, with real TLS and HTTP on both sides. An attack that is refused stands beside the
//! rule, or the address, with which the same attack gets through.

mod attacks;
mod brokered;
mod names;
mod traffic;
mod world;
