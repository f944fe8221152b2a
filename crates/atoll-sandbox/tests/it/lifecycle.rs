//! From create to destroy.

use crate::plane::{idle, with_plane};

crate::runner::tests![a_sandbox_comes_up_and_goes];

fn a_sandbox_comes_up_and_goes() {
    with_plane(|plane| {
        let sandbox = plane.create(idle(2));
        let hello = plane.guest(&sandbox).hello();
        assert_eq!(hello.sandbox_id, "sandbox-2");
        assert_eq!(hello.incarnation, sandbox.incarnation);
        let output = plane.guest(&sandbox).sh("id -u; hostname; echo $PWD; echo oops >&2; exit 3");
        assert_eq!((output.code, output.stderr.as_str()), (3, "oops\n"));
        assert_eq!(output.stdout, "1000\nsandbox\n/workspace\n");
        plane.run(plane.driver.destroy(&sandbox.id, 0)).unwrap();
        assert!(plane.run(plane.driver.list()).unwrap().is_empty());
    });
}
