//! The store against a real disk.

mod it {
    mod crash;
    mod damage;
    mod journal;
    mod keys;
    mod model;
    mod support;
    mod watch;
}
