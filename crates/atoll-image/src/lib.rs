//! Images: from an archive, an OCI layout or a directory to a root file system on disk that a sandbox can have.
//!
//! Whoever made an image is not trusted. Everything is reached from the new root's descriptor as if it were `/`, so
//! that no path and no link leads out of it; what an image may not have (devices, other users' rights) is refused or
//! left out; sizes and counts are bounded.

pub mod config;
pub mod layer;
pub mod name;
pub mod source;
pub mod store;

pub use config::ImageConfig;
pub use layer::{Bounds, LayerError, unpack};
pub use name::{ImageName, InvalidName};
pub use source::{Opened, SourceError};
pub use store::{Image, Images, StoreError};
