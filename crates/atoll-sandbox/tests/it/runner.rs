//! Runs tests one after another and reports as the usual harness does.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

/// One test.
#[derive(Clone, Copy)]
pub(crate) struct Test {
    pub(crate) name: &'static str,
    pub(crate) run: fn(),
}

/// Names tests after their functions.
macro_rules! tests {
    ($($name:ident),* $(,)?) => {
        pub(crate) const TESTS: &[crate::runner::Test] = &[
            $(crate::runner::Test {
                name: concat!(module_path!(), "::", stringify!($name)),
                run: $name,
            }),*
        ];
    };
}
pub(crate) use tests;

/// Arguments as the usual harness takes them: names (parts of them, unless `--exact`), `--skip`, `--list`.
struct Choice {
    names: Vec<String>,
    skipped: Vec<String>,
    exact: bool,
    list: bool,
}

impl Choice {
    fn from_arguments() -> Self {
        let mut choice = Self { names: Vec::new(), skipped: Vec::new(), exact: false, list: false };
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--exact" => choice.exact = true,
                "--list" => choice.list = true,
                "--skip" => choice.skipped.extend(arguments.next()),
                "--test-threads" | "--format" | "--color" | "--logfile" | "-Z" => drop(arguments.next()),
                flag if flag.starts_with('-') => {}
                name => choice.names.push(name.to_owned()),
            }
        }
        choice
    }

    fn takes(&self, name: &str) -> bool {
        let matches = |wanted: &String| if self.exact { name == wanted } else { name.contains(wanted.as_str()) };
        (self.names.is_empty() || self.names.iter().any(matches)) && !self.skipped.iter().any(matches)
    }
}

pub(crate) fn run(tests: &[Test]) -> ExitCode {
    let choice = Choice::from_arguments();
    let chosen: Vec<&Test> = tests.iter().filter(|test| choice.takes(test.name)).collect();
    if choice.list {
        chosen.iter().for_each(|test| println!("{}: test", test.name));
        return ExitCode::SUCCESS;
    }
    println!("\nrunning {} tests", chosen.len());
    let reason = plane_reason();
    let mut failed = Vec::new();
    for test in &chosen {
        if let Some(reason) = &reason {
            println!("SKIPPED {}: {reason}", test.name);
            println!("test {} ... ignored", test.name);
            continue;
        }
        let outcome = catch_unwind(AssertUnwindSafe(test.run));
        println!("test {} ... {}", test.name, if outcome.is_ok() { "ok" } else { "FAILED" });
        if outcome.is_err() {
            failed.push(test.name);
        }
    }
    let ignored = if reason.is_some() { chosen.len() } else { 0 };
    let passed = chosen.len() - failed.len() - ignored;
    if !failed.is_empty() {
        println!("\nfailures:");
        failed.iter().for_each(|name| println!("    {name}"));
    }
    println!(
        "\ntest result: {}. {passed} passed; {} failed; {ignored} ignored; 0 measured; {} filtered out\n",
        if failed.is_empty() { "ok" } else { "FAILED" },
        failed.len(),
        tests.len() - chosen.len(),
    );
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Why nothing can be tested here.
fn plane_reason() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("making sandboxes needs root".to_owned());
    }
    None
}

/// Adds a line to the report of attacks, where one is asked for: tier, class, attack, outcome.
pub(crate) fn report(tier: &str, class: &str, attack: &str, outcome: &str) {
    use std::io::Write as _;
    let Some(path) = std::env::var_os("ATOLL_ATTACK_REPORT") else { return };
    let mut file = std::fs::File::options().create(true).append(true).open(path).unwrap();
    writeln!(file, "{tier}\t{class}\t{attack}\t{outcome}").unwrap();
}
