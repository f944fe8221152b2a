//! What the gate takes for the list of a script's commands against what bash really runs. Scripts are made by a seeded
//! generator and given to bash with a search path of programs that do nothing but write down how they were called. Every
//! call must be one that the gate had seen coming, or the gate must have said that it does not understand the script.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use atoll_policy::shell::{Script, analyse};

/// Scripts of an ordinary run, and of one with full counts.
const SCRIPTS: u64 = 400;
const SCRIPTS_SOAK: u64 = 20_000;
/// How deep generated scripts are nested.
const DEPTH: u32 = 3;

/// Programs that only write down how they were called.
const STUBS: [&str; 8] = ["alpha", "beta", "gamma", "rm", "git", "curl", "psql", "make"];
/// Programs that run others: the real ones.
const REAL: [&str; 5] = ["bash", "sh", "env", "xargs", "timeout"];

/// A directory of stubs, and an empty one to run in.
struct Bed {
    directory: tempfile::TempDir,
}

impl Bed {
    fn new() -> Self {
        let directory = tempfile::Builder::new().prefix("atoll-bash-").tempdir().expect("a directory");
        let programs = directory.path().join("bin");
        fs::create_dir_all(&programs).expect("it can be made");
        fs::create_dir_all(directory.path().join("work")).expect("it can be made");
        // One write, so that calls of a pipe do not mix; words end with a zero byte, calls with a word of one byte 1.
        let text = "#!/bin/bash\nprintf '%s\\0' \"${0##*/}\" \"$@\" $'\\1' >> \"$CALLS\"\n";
        for name in STUBS {
            let path = programs.join(name);
            fs::write(&path, text).expect("it can be written");
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("it can be changed");
        }
        for name in REAL {
            let real = ["/bin", "/usr/bin"].map(|place| PathBuf::from(place).join(name));
            let real = real.into_iter().find(|path| path.exists()).expect("it is installed");
            symlink(real, programs.join(name)).expect("it can be linked");
        }
        Self { directory }
    }

    /// What bash ran, each call with its words.
    fn run(&self, script: &str, seed: u64) -> Vec<Vec<String>> {
        // A file for each script: what goes on in the background of an earlier one may still write.
        let log = self.directory.path().join(format!("calls-{seed}"));
        let work = self.directory.path().join("work");
        Command::new("/bin/bash")
            .args(["--noprofile", "--norc", "-c", script])
            .env_clear()
            .env("PATH", self.directory.path().join("bin"))
            .env("LC_ALL", "C.UTF-8")
            .env("CALLS", &log)
            .current_dir(&work)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .expect("bash starts");
        clear(&work);
        let text = fs::read_to_string(&log).unwrap_or_default();
        let _gone = fs::remove_file(&log);
        let words: Vec<String> = text.split_terminator('\0').map(str::to_owned).collect();
        words.split(|word| word == "\u{1}").filter(|call| !call.is_empty()).map(<[String]>::to_vec).collect()
    }
}

/// Calls that nobody saw coming.
fn surprises(script: &Script, ran: &[Vec<String>]) -> Vec<Vec<String>> {
    let foreseen = |call: &&Vec<String>| {
        !script.commands.iter().any(|command| {
            let words: Option<Vec<&str>> = command.words.iter().map(|word| word.text()).collect();
            match words {
                Some(words) => words == **call,
                // A word that is only known when it runs: the program is what counts.
                None => command.program().is_none_or(|program| program == call[0]),
            }
        })
    };
    ran.iter().filter(foreseen).cloned().collect()
}

fn clear(directory: &Path) {
    for entry in fs::read_dir(directory).expect("readable").flatten() {
        let _gone =
            if entry.path().is_dir() { fs::remove_dir_all(entry.path()) } else { fs::remove_file(entry.path()) };
    }
}

/// Makes scripts; the same seed makes the same script.
struct Maker(u64);

impl Maker {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.roll(from.len() as u64) as usize]
    }

    fn word(&mut self, depth: u32) -> String {
        match self.roll(if depth == 0 { 9 } else { 11 }) {
            0 => "'a b'".to_owned(),
            1 => "\"c;d\"".to_owned(),
            2 => "e\\ f".to_owned(),
            3 => "$'g\\x41'".to_owned(),
            4 => "-rf".to_owned(),
            5 => "\"$V\"".to_owned(),
            6 => "x'y'\"z\"".to_owned(),
            7 => "--flag=1".to_owned(),
            8 => "push".to_owned(),
            9 => format!("\"$({})\"", self.script(depth - 1)),
            _ => format!("<({})", self.simple(depth - 1)),
        }
    }

    fn program(&mut self) -> String {
        let name = self.pick(&STUBS);
        match self.roll(8) {
            0 => format!("\\{name}"),
            1 => format!("'{name}'"),
            2 => format!("{}\"\"{}", &name[..1], &name[1..]),
            3 => format!("$'{name}'"),
            _ => name.to_owned(),
        }
    }

    fn simple(&mut self, depth: u32) -> String {
        let mut words = vec![self.program()];
        for _ in 0..self.roll(3) {
            words.push(self.word(depth));
        }
        let plain = words.join(" ");
        match self.roll(14) {
            0 => format!("V={} {plain}", self.pick(&["1", "two", "'3 4'"])),
            1 => format!("{plain} > out 2>&1"),
            2 => format!("env A=b {plain}"),
            3 => format!("command {plain}"),
            4 => format!("timeout 5 {plain}"),
            5 => format!("! {plain}"),
            6 => format!("printf 'm\\n' | xargs {plain}"),
            _ => plain,
        }
    }

    fn script(&mut self, depth: u32) -> String {
        if depth == 0 {
            return self.simple(0);
        }
        let (one, other) = (self.script(depth - 1), self.script(depth - 1));
        match self.roll(20) {
            0 => format!("{one} | {other}"),
            1 => format!("{one} && {other}"),
            2 => format!("{one} || {other}"),
            3 => format!("{one}; {other}"),
            4 => format!("{one} & {other}; wait"),
            5 => format!("({one}); {other}"),
            6 => format!("{{ {one}; {other}; }}"),
            7 => format!("if {one}; then {other}; fi"),
            8 => format!("for i in 1 2; do {one}; done"),
            9 => format!("case x in x) {one};; *) {other};; esac"),
            10 => format!("bash -c \"{}\"", one.replace(['"', '$', '`', '\\'], "")),
            11 => format!("eval '{}'", one.replace('\'', "")),
            12 => format!("f() {{ {one}; }}; f; {other}"),
            13 => format!("V=$({one}); {other}"),
            14 => format!("{other} <<EOF\n$({one})\nEOF\n"),
            15 => format!("bash <<'EOF'\n{one}\nEOF\n{other}"),
            16 => format!("echo `{}`; {other}", one.replace(['`', '\\'], "")),
            17 => format!("cd . && {one}\n{other}"),
            18 => format!("# {one}\n{other}"),
            _ => format!("while {one}; do {other}; break; done"),
        }
    }
}

#[test]
fn bash_runs_nothing_that_the_gate_did_not_see_coming() {
    let bed = Bed::new();
    let count = if std::env::var_os("ATOLL_SOAK").is_some() { SCRIPTS_SOAK } else { SCRIPTS };
    let (mut calls, mut unclear) = (0, 0);
    for seed in 1..=count {
        let script = Maker(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15)).script(DEPTH);
        let read = analyse(&script, "/workspace", None);
        let ran = bed.run(&script, seed);
        if !read.problems.is_empty() {
            unclear += 1;
            continue;
        }
        calls += ran.len();
        let surprises = surprises(&read, &ran);
        let seen: Vec<String> = read.commands.iter().map(atoll_policy::shell::Command::display).collect();
        assert!(surprises.is_empty(), "seed {seed}: bash ran {surprises:?}\n--- script\n{script}\n--- seen\n{seen:#?}");
    }
    println!("{count} scripts, {calls} calls foreseen, {unclear} scripts not understood");
    assert!(unclear * 2 < count, "most scripts must be understood: {unclear} of {count} were not");
    assert!(calls as u64 > count, "bash must have run something: {calls}");
}

/// The twin: a reader that splits at white space and semicolons is surprised all the time.
#[test]
fn a_simpler_reader_is_surprised() {
    let bed = Bed::new();
    let mut surprised = 0;
    for seed in 1..=20_u64 {
        let script = Maker(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15)).script(DEPTH);
        let seen: Vec<&str> = script.split(';').map(str::trim).collect();
        surprised += bed.run(&script, seed).iter().filter(|call| !seen.contains(&call.join(" ").as_str())).count();
    }
    assert!(surprised > 0);
}
