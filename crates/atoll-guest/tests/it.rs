//! Drives the real binary over its socket. Needs root: the guest takes on other users' identities.

#[cfg(test)]
mod it {
    mod boot;
    mod commands;
    mod confinement;
    mod files;
    mod guest;
    mod http;
    mod limits;
    mod memory;
    mod ports;
    mod repeat;
    mod terminal;
    mod trees;
}
