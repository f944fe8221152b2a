//! How long starting and ending take. Printed, never judged: the machine does other things too.

use std::time::{Duration, Instant};

use crate::plane::{idle, with_plane};

crate::runner::tests![create_to_hello];

const ROUNDS: usize = 60;

fn create_to_hello() {
    with_plane(|plane| {
        let (mut created, mut greeted, mut destroyed) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            std::thread::sleep(Duration::from_millis(30));
            let start = Instant::now();
            let sandbox = plane.create(idle(2));
            created.push(start.elapsed());
            plane.guest(&sandbox).hello();
            greeted.push(start.elapsed());
            let start = Instant::now();
            plane.run(plane.driver.destroy(&sandbox.id, 0)).unwrap();
            destroyed.push(start.elapsed());
        }
        print("create", &mut created);
        print("create to hello", &mut greeted);
        print("destroy", &mut destroyed);
    });
}

fn print(what: &str, times: &mut [Duration]) {
    times.sort_unstable();
    let at = |percent: usize| times[(times.len() - 1) * percent / 100].as_secs_f64() * 1000.0;
    println!("{what}: min {:.2} ms, p50 {:.2} ms, p95 {:.2} ms, n={}", at(0), at(50), at(95), times.len());
}
