//! Simulations: fixed seeds that are always run, one that is new each time, and many when there is time.

mod it {
    mod seeds;
}
