//! Starting a command, at most once for each idempotency key.

use std::sync::Arc;

use atoll_guest::protocol::{
    EXEC_ID_BYTES_MAX, EXECS_RUNNING_MAX, ExecRequest, IDEMPOTENCY_KEY_BYTES_MAX, TerminalSize,
};
use sha2::{Digest as _, Sha256};

use super::super::process::Tag;
use super::super::spawn::{self, Launch, complete_environment};
use super::super::{Guest, clock};
use super::record::{Attachment, Exec};
use super::streams::{self, Streams};
use super::{ArgvDigest, Begun, ExecError, Execs, KeyEntry, pump};

/// Idempotency keys remembered in one incarnation. They are never forgotten: a forgotten key would read as "not run".
const KEYS_MAX: usize = 65_536;

/// Arguments and variables of one request.
const ARGUMENTS_BYTES_MAX: usize = 512 * 1024;

/// The kind of terminal that clients are taken to show.
const TERMINAL_KIND: &str = "xterm-256color";

impl Execs {
    /// Starts a command, unless its idempotency key says that it was started before.
    pub(crate) fn begin(&self, guest: &Arc<Guest>, request: ExecRequest) -> Result<Begun, ExecError> {
        check_lengths(&request)?;
        let Some(key) = request.idempotency_key.clone() else {
            return self.start(guest, request, None);
        };
        let _alone = self.keyed_start.lock().expect("no panic while a command is started");
        let digest = argv_digest(&request.argv);
        if let Some(begun) = self.begun_before(&key, digest)? {
            return Ok(begun);
        }
        self.start(guest, request, Some((key, digest)))
    }

    fn begun_before(&self, key: &str, digest: ArgvDigest) -> Result<Option<Begun>, ExecError> {
        let known = self.known();
        let Some(entry) = known.keys.get(key) else {
            return if known.keys.len() < KEYS_MAX {
                Ok(None)
            } else {
                Err(ExecError::TooManyKeys { limit: KEYS_MAX })
            };
        };
        if entry.argv_digest != digest {
            return Err(ExecError::KeyReused);
        }
        if let Some(Some(exec)) = known.by_id.get(&entry.exec_id) {
            let attachment = Attachment::new(Arc::clone(exec));
            return Ok(Some(Begun::Attached { attachment, replayed: true }));
        }
        let exit = entry.exit.clone().expect("a command is forgotten only after its end was recorded");
        let (exec_id, output_bytes) = (entry.exec_id.clone(), entry.output_bytes);
        Ok(Some(Begun::Remembered { exec_id, exit, output_bytes }))
    }

    fn start(
        &self,
        guest: &Arc<Guest>,
        request: ExecRequest,
        key: Option<(String, ArgvDigest)>,
    ) -> Result<Begun, ExecError> {
        let exec_id = self.reserve_id(request.id.as_deref())?;
        let undo = |error| {
            let mut known = self.known();
            known.running -= 1;
            known.by_id.remove(&exec_id);
            known.order.retain(|id| *id != exec_id);
            error
        };
        let pump = pump::start(guest).map_err(ExecError::Thread).map_err(undo)?;
        let tag = self.processes.take_tag().map_err(ExecError::from).map_err(undo)?;
        let (exec, streams) = self.launch(guest, &request, exec_id.clone(), tag).map_err(|error| {
            self.processes.release_tag(tag);
            undo(error)
        })?;
        let mut known = self.known();
        if let Some((key, argv_digest)) = key {
            known.keys.insert(key, KeyEntry { exec_id: exec_id.clone(), argv_digest, exit: None, output_bytes: 0 });
        }
        known.by_id.insert(exec_id, Some(Arc::clone(&exec)));
        drop(known);
        let attachment = Attachment::new(Arc::clone(&exec));
        let deadline_ms = request.timeout_ms.map(|timeout| clock::monotonic_ms().saturating_add(timeout));
        pump.send(pump::Work { exec, streams, deadline_ms }).expect("the pump waits for its work");
        Ok(Begun::Attached { attachment, replayed: false })
    }

    /// Takes an id and a place among the running commands.
    fn reserve_id(&self, wanted: Option<&str>) -> Result<String, ExecError> {
        let mut known = self.known();
        if known.running >= EXECS_RUNNING_MAX {
            return Err(ExecError::TooMany);
        }
        let id = match wanted {
            Some(wanted) => wanted.to_owned(),
            None => loop {
                known.started += 1;
                let id = format!("e{}-{}", self.incarnation, known.started);
                if !known.by_id.contains_key(&id) {
                    break id;
                }
            },
        };
        if known.by_id.contains_key(&id) {
            return Err(ExecError::IdInUse { exec_id: id });
        }
        known.by_id.insert(id.clone(), None);
        known.order.push_back(id.clone());
        known.running += 1;
        Ok(id)
    }

    fn launch(
        &self,
        guest: &Arc<Guest>,
        request: &ExecRequest,
        id: String,
        tag: Tag,
    ) -> Result<(Arc<Exec>, Streams), ExecError> {
        let config = &guest.config;
        let user = request.user.as_ref().unwrap_or(&config.exec_user);
        let started_ms = clock::monotonic_ms() - guest.booted_ms;
        let exec = Exec::new(id, request.argv.clone(), request.idempotency_key.clone(), tag, started_ms);
        let exec = Arc::new(exec.map_err(ExecError::Descriptors)?);
        let made = streams::make(user, request.tty, request.stdin)?;
        let cwd = guest.directory(request.cwd.as_deref());
        let launch = Launch {
            argv: &request.argv,
            env: environment(guest, request, request.tty),
            cwd: &cwd,
            user,
            tag,
            limits: &config.limits,
            stdio: made.child.stdio(),
            is_terminal: made.child.is_terminal,
        };
        let mut children = self.children();
        let owner = Arc::clone(&exec);
        spawn::spawn(&launch, move |pid| {
            owner.set_pid(pid);
            children.insert(pid, owner);
        })?;
        exec.set_controller(made.controller);
        Ok((exec, made.ours))
    }
}

fn environment(guest: &Guest, request: &ExecRequest, tty: Option<TerminalSize>) -> Vec<(String, String)> {
    let mut env = guest.config.exec_env.clone();
    env.extend(request.env.clone());
    complete_environment(&mut env, request.user.as_ref().unwrap_or(&guest.config.exec_user));
    if tty.is_some() {
        env.entry("TERM".to_owned()).or_insert_with(|| TERMINAL_KIND.to_owned());
    }
    env.into_iter().collect()
}

fn check_lengths(request: &ExecRequest) -> Result<(), ExecError> {
    let within = |what, length: usize, limit| {
        if length == 0 || length > limit { Err(ExecError::Length { what, limit }) } else { Ok(()) }
    };
    if let Some(id) = &request.id {
        within("the command's id", id.len(), EXEC_ID_BYTES_MAX)?;
    }
    if let Some(key) = &request.idempotency_key {
        within("the idempotency key", key.len(), IDEMPOTENCY_KEY_BYTES_MAX)?;
    }
    let arguments: usize = request.argv.iter().map(String::len).sum();
    let variables: usize = request.env.iter().map(|(name, value)| name.len() + value.len()).sum();
    within("the command line with its environment", arguments + variables, ARGUMENTS_BYTES_MAX)
}

/// Keys are compared with what they were used for; the arguments may be long and are not kept for that.
fn argv_digest(argv: &[String]) -> ArgvDigest {
    let mut hash = Sha256::new();
    for argument in argv {
        hash.update((argument.len() as u64).to_be_bytes());
        hash.update(argument);
    }
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_told_apart_by_their_ends() {
        let digest = |argv: &[&str]| argv_digest(&argv.iter().map(|part| (*part).to_owned()).collect::<Vec<_>>());
        assert_eq!(digest(&["a", "b"]), digest(&["a", "b"]));
        assert_ne!(digest(&["a", "b"]), digest(&["ab"]));
        assert_ne!(digest(&["ab", ""]), digest(&["ab"]));
    }

    #[test]
    fn lengths_are_bounded() {
        let long = |count| "x".repeat(count);
        let check = |request: ExecRequest, ok: bool| assert_eq!(check_lengths(&request).is_ok(), ok);
        check(ExecRequest::new(["true"]), true);
        check(ExecRequest::new(Vec::<String>::new()), false);
        check(ExecRequest::new([long(ARGUMENTS_BYTES_MAX + 1)]), false);
        check(ExecRequest { id: Some(String::new()), ..ExecRequest::new(["true"]) }, false);
        check(ExecRequest { idempotency_key: Some(long(257)), ..ExecRequest::new(["true"]) }, false);
        check(ExecRequest { idempotency_key: Some(long(256)), ..ExecRequest::new(["true"]) }, true);
    }
}
