//! The store against a real disk.

mod it {
    mod backup;
    mod crash;
    mod damage;
    mod journal;
    mod keys;
    mod model;
    mod support;
    mod watch;
}
