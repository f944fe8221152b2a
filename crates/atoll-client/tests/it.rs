//! The clients against what they talk to.

#[cfg(test)]
mod it {
    mod recorded;
    mod sandbox;
}
