//! The static binary of every sandbox. Inside, as `atoll-guest init`, it is PID 1 and serves the session protocol;
//! beside it, as `atoll-guest supervise`, it starts the former and records how it ended.

use std::io::{self, Write as _};
use std::process::ExitCode;

mod init;
mod supervise;

const EXIT_CODE_USAGE: u8 = 64;

fn main() -> ExitCode {
    let role = std::env::args_os().nth(1);
    match role.as_deref().and_then(|role| role.to_str()) {
        Some("init") => init::main(),
        Some("supervise") => supervise::main(),
        _ => {
            let _ = writeln!(io::stderr(), "usage: atoll-guest init | atoll-guest supervise");
            ExitCode::from(EXIT_CODE_USAGE)
        }
    }
}
