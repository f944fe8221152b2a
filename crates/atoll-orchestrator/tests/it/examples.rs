//! Every example, from its task to its result.

use std::process::Command;

use atoll_api::v1::{OutcomeName, RunEvent, RunEventKind, ToolStatus};

use super::world::{Project, Setup, World, example_conversation};

struct Example {
    name: &'static str,
    /// Passes on the result, and not before.
    check: Option<&'static [&'static str]>,
    /// What the root agent's report holds.
    report: &'static str,
    /// Calls refused by policy.
    refused: usize,
}

const fn repair(name: &'static str, check: &'static [&'static str], report: &'static str) -> Example {
    Example { name, check: Some(check), report, refused: 0 }
}

const fn look(name: &'static str, report: &'static str, refused: usize) -> Example {
    Example { name, check: None, report, refused }
}

const EXAMPLES: [Example; 9] = [
    Example { refused: 1, ..repair("calculator", &["python3", "-m", "unittest"], "Done.") },
    repair("slug", &["node", "--test"], "Repaired."),
    repair("wordcount", &["make", "check"], "The flag is there."),
    repair("backup", &["sh", "-c", "bash test.sh && [ $(grep -c basename backup.sh) = 1 ]"], "Done."),
    repair("invoice", &["perl", "invoice.t"], "Repaired."),
    repair("leaked-key", &["python3", "-m", "unittest"], "The key is out of the code."),
    look("login", "SQL injection", 0),
    look("injected-readme", "Described", 5),
    look("endless-loop", "It could not be done.", 0),
];

fn passes(project: &Project, check: &[&str]) -> bool {
    let output = Command::new(check[0])
        .args(&check[1..])
        .current_dir(project.directory.path())
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .output();
    output.expect("the language is here").status.success()
}

fn is_here(program: &str) -> bool {
    Command::new("sh").args(["-c", &format!("command -v {program}")]).output().is_ok_and(|found| found.status.success())
}

async fn play(example: &Example) {
    if let Some(check) = example.check.filter(|check| !is_here(check[0])) {
        println!("SKIPPED example {}: {} is not installed", example.name, check[0]);
        return;
    }
    let project = Project::example(example.name);
    if let Some(check) = example.check {
        assert!(!passes(&project, check), "{}: there is nothing to do", example.name);
        project.git(&["clean", "-qfdx"]);
    }
    let start = project.head();
    let world = World::new(Setup::new(example_conversation(example.name))).await;
    let run = world.submit("do it", &project).await;
    let (events, detail) = world.finish(&run).await;
    let outcome = detail.summary.outcome.clone().expect("it is over");
    assert_eq!(outcome.name, OutcomeName::Completed, "{}: {outcome:?}\n{events:#?}", example.name);
    let report = detail.final_text.clone().unwrap_or_default();
    assert!(report.contains(example.report), "{}: {report}", example.name);
    let refused =
        |event: &&RunEvent| matches!(event.event, RunEventKind::ToolFinished { status: ToolStatus::Denied, .. });
    assert_eq!(events.iter().filter(refused).count(), example.refused, "{}: {events:#?}", example.name);
    assert_eq!(project.head(), start, "{}: the checkout is not touched", example.name);
    match example.check {
        Some(check) => {
            project.fetch(&world, &run).await;
            project.git(&["switch", "-q", &format!("atoll/{run}")]);
            assert!(passes(&project, check), "{}: the result does not pass", example.name);
        }
        None => assert!(detail.summary.result.is_none(), "{}: nothing is to be changed", example.name),
    }
    if example.name == "endless-loop" {
        let ended = detail.agents[1].outcome.as_ref().map(|outcome| outcome.name);
        assert_eq!(ended, Some(OutcomeName::LoopDetected), "{:?}", detail.agents[1]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_example_comes_to_its_result() {
    for example in &EXAMPLES {
        play(example).await;
    }
}
