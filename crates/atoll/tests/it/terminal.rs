//! What a person at a terminal sees: `script` of util-linux lends the terminal.

use std::io::{Read, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use crate::agents::{TASK, calculator, git, scripted};
use crate::world::{World, eventually, skip_without_root};

const CONTROL_C: &str = "\x03";

/// `atoll` on a terminal of its own.
struct Terminal {
    child: Child,
    keyboard: ChildStdin,
    screen: Receiver<Vec<u8>>,
    seen: String,
}

impl Terminal {
    fn start(world: &World, arguments: &[&str]) -> Self {
        let quoted: Vec<String> = arguments.iter().map(|argument| format!("'{argument}'")).collect();
        // A shell that stayed between would die of the terminal's Ctrl-C itself and hide the command's own exit code.
        let line = format!("exec '{}' {}", env!("CARGO_BIN_EXE_atoll"), quoted.join(" "));
        let mut child = Command::new("script")
            .args(["--quiet", "--flush", "--return", "--command", &line, "/dev/null"])
            .env("ATOLL_STATE_DIR", world.state())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("script runs");
        let keyboard = child.stdin.take().expect("it is piped");
        let mut output = child.stdout.take().expect("it is piped");
        let (sender, screen) = channel();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = output.read(&mut buffer) {
                if sender.send(buffer[..count].to_vec()).is_err() {
                    return;
                }
            }
        });
        Self { child, keyboard, screen, seen: String::new() }
    }

    fn press(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).expect("the terminal is there");
        self.keyboard.flush().expect("the terminal is there");
    }

    /// Waits until the screen shows something, and forgets what was before it.
    #[track_caller]
    fn shows(&mut self, words: &str) {
        loop {
            if let Some(at) = self.seen.find(words) {
                self.seen.drain(..at + words.len());
                return;
            }
            match self.screen.recv_timeout(Duration::from_secs(60)) {
                Ok(bytes) => self.seen.push_str(&String::from_utf8_lossy(&bytes)),
                Err(_) => panic!("{words:?} was never shown; what was: {}", self.seen),
            }
        }
    }

    #[track_caller]
    fn ends_with(mut self, code: i32) {
        eventually("the command ends", || self.child.try_wait().is_ok_and(|status| status.is_some()));
        let status = self.child.wait().expect("it has ended");
        assert_eq!(status.code(), Some(code), "{}", self.seen);
    }
}

/// A run that waits for an approval, followed at a terminal.
fn waiting_run(world: &World) -> Terminal {
    let project = calculator(world);
    git(&project, &["remote", "add", "origin", "git://127.0.0.1:1/nowhere.git"]);
    let mut terminal = Terminal::start(world, &["ask", TASK, "--repo", &project.display().to_string()]);
    terminal.shows("atoll approve");
    terminal
}

fn outcome_of_the_run(world: &World) -> Option<String> {
    let runs = world.atoll(&["runs", "ls", "--json"]).ok().json();
    runs["runs"][0]["outcome"]["name"].as_str().map(str::to_owned)
}

#[test]
fn control_c_asks_and_c_cancels_the_run() {
    if skip_without_root("control_c_asks_and_c_cancels_the_run") {
        return;
    }
    let world = scripted("conversation-push.yaml");
    let mut terminal = waiting_run(&world);
    terminal.press(CONTROL_C);
    terminal.shows("[c] cancel the run");
    terminal.press("c\n");
    terminal.shows("ended without success");
    terminal.ends_with(8);
    assert_eq!(outcome_of_the_run(&world).as_deref(), Some("cancelled"));
}

#[test]
fn control_c_asks_and_enter_leaves_the_run() {
    if skip_without_root("control_c_asks_and_enter_leaves_the_run") {
        return;
    }
    let world = scripted("conversation-push.yaml");
    let mut terminal = waiting_run(&world);
    terminal.press(CONTROL_C);
    terminal.shows("[Enter] leave it running");
    terminal.press("\n");
    terminal.shows("left running");
    terminal.ends_with(0);
    assert_eq!(outcome_of_the_run(&world), None, "it goes on");
}
