//! Startup, readiness and liveness probes as state machines. Pure.

use k8s_openapi::api::core::v1::{Container, HTTPGetAction, Probe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::environment::Unprepared;
use crate::runtime::{CheckOutcome, Question};

const DEFAULT_PERIOD_SECONDS: i32 = 10;
const DEFAULT_TIMEOUT_SECONDS: i32 = 1;
const DEFAULT_FAILURE_THRESHOLD: i32 = 3;
/// Until a container has come up it is asked more often than its period says, so that nobody waits for the next turn
/// of a clock. The pause doubles up to the period.
const EAGER_PAUSE_MS: u64 = 20;

/// Which of a container's probes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ProbeKind {
    /// The others wait for it.
    Startup,
    /// Decides whether the Pod is Ready.
    Readiness,
    /// Restarts the container when it fails.
    Liveness,
}

impl ProbeKind {
    /// As it stands in messages.
    #[must_use]
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Startup => "Startup",
            Self::Readiness => "Readiness",
            Self::Liveness => "Liveness",
        }
    }
}

/// What one probe asks and how often.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ProbePlan {
    /// The question.
    pub(crate) question: Question,
    /// Wait after the container's start, in milliseconds.
    pub(crate) initial_delay_ms: u64,
    /// Time between questions, in milliseconds.
    pub(crate) period_ms: u64,
    /// How long an answer may take, in milliseconds.
    pub(crate) timeout_ms: u64,
    /// Answers in a row that make it pass.
    pub(crate) success_threshold: u32,
    /// Answers in a row that make it fail.
    pub(crate) failure_threshold: u32,
    /// Grace of a restart that it causes, in milliseconds; the Pod's own when `None`.
    pub(crate) grace_ms: Option<u64>,
}

/// Where one probe stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ProbeState {
    /// What it does.
    pub(crate) plan: ProbePlan,
    next_at_ms: u64,
    /// Failures before this time are not counted: the container was asked early.
    counted_from_ms: u64,
    eager_pause_ms: Option<u64>,
    in_flight: bool,
    successes: u32,
    failures: u32,
    verdict: Option<bool>,
    /// Why the last question failed.
    pub(crate) last_failure: Option<String>,
}

/// All probes of a running container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Probes {
    /// The others wait for it.
    pub(crate) startup: Option<ProbeState>,
    /// Decides whether the Pod is Ready.
    pub(crate) readiness: Option<ProbeState>,
    /// Restarts the container when it fails.
    pub(crate) liveness: Option<ProbeState>,
}

impl ProbeState {
    fn new(plan: ProbePlan, kind: ProbeKind, started_at_ms: u64) -> Self {
        let first = started_at_ms.saturating_add(plan.initial_delay_ms);
        Self {
            next_at_ms: first,
            counted_from_ms: first,
            eager_pause_ms: (kind != ProbeKind::Liveness).then_some(EAGER_PAUSE_MS),
            in_flight: false,
            successes: 0,
            failures: 0,
            verdict: None,
            last_failure: None,
            plan,
        }
    }

    /// When to ask next; `None` while a question is out.
    #[must_use]
    pub(crate) fn due_at_ms(&self) -> Option<u64> {
        (!self.in_flight).then_some(self.next_at_ms)
    }

    /// Notes that the question is asked.
    pub(crate) fn begin(&mut self) {
        self.in_flight = true;
    }

    /// Takes the answer.
    pub(crate) fn finish(&mut self, outcome: &CheckOutcome, now_ms: u64) {
        self.in_flight = false;
        match outcome {
            CheckOutcome::Passed => {
                self.failures = 0;
                self.successes += 1;
                self.eager_pause_ms = None;
                if self.successes >= self.plan.success_threshold {
                    self.verdict = Some(true);
                }
                self.next_at_ms = now_ms.saturating_add(self.plan.period_ms);
            }
            CheckOutcome::Failed(why) => {
                self.successes = 0;
                self.last_failure = Some(why.clone());
                if now_ms >= self.counted_from_ms {
                    self.failures += 1;
                    self.counted_from_ms = now_ms.saturating_add(self.plan.period_ms);
                }
                if self.failures >= self.plan.failure_threshold {
                    self.verdict = Some(false);
                }
                let pause = match self.eager_pause_ms {
                    Some(pause) if pause < self.plan.period_ms => {
                        self.eager_pause_ms = Some(pause * 2);
                        pause
                    }
                    _ => self.plan.period_ms,
                };
                self.next_at_ms = now_ms.saturating_add(pause);
            }
        }
    }
}

impl Probes {
    /// The probes of a container that starts now.
    ///
    /// # Errors
    /// A probe names a port that the container does not have.
    pub(crate) fn of(container: &Container, started_at_ms: u64) -> Result<Self, Unprepared> {
        let state = |probe: Option<&Probe>, kind: ProbeKind| {
            let plan = probe.map(|probe| plan(container, probe, kind)).transpose()?;
            Ok(plan.map(|plan| ProbeState::new(plan, kind, started_at_ms)))
        };
        Ok(Self {
            startup: state(container.startup_probe.as_ref(), ProbeKind::Startup)?,
            readiness: state(container.readiness_probe.as_ref(), ProbeKind::Readiness)?,
            liveness: state(container.liveness_probe.as_ref(), ProbeKind::Liveness)?,
        })
    }

    /// Takes a container that ran before the node did for started and, if its Pod says so, for ready.
    pub(crate) fn resume(&mut self, is_ready: bool) {
        if let Some(startup) = &mut self.startup {
            startup.verdict = Some(true);
        }
        if let Some(readiness) = &mut self.readiness {
            readiness.verdict = Some(is_ready);
        }
    }

    /// Whether the container has come up.
    #[must_use]
    pub(crate) fn is_started(&self) -> bool {
        self.startup.as_ref().is_none_or(|probe| probe.verdict == Some(true))
    }

    /// Whether the Pod is ready.
    #[must_use]
    pub(crate) fn is_ready(&self) -> bool {
        self.is_started() && self.readiness.as_ref().is_none_or(|probe| probe.verdict == Some(true))
    }

    /// Whether readiness was decided at all.
    #[must_use]
    pub(crate) fn is_undecided(&self) -> bool {
        !self.is_started() || self.readiness.as_ref().is_some_and(|probe| probe.verdict.is_none())
    }

    /// The probe for whose sake the container must be restarted.
    #[must_use]
    pub(crate) fn fatal(&self) -> Option<(ProbeKind, &ProbeState)> {
        let failed = |probe: &&ProbeState| probe.verdict == Some(false);
        let startup = self.startup.as_ref().filter(failed).map(|probe| (ProbeKind::Startup, probe));
        startup.or_else(|| self.liveness.as_ref().filter(failed).map(|probe| (ProbeKind::Liveness, probe)))
    }

    /// The probes that are asked now, each with the time of its next question.
    pub(crate) fn active(&self) -> impl Iterator<Item = (ProbeKind, u64)> {
        let (startup, later) = match (&self.startup, self.is_started()) {
            (Some(probe), false) => (Some((ProbeKind::Startup, probe)), [None, None]),
            _ => {
                let readiness = self.readiness.as_ref().map(|probe| (ProbeKind::Readiness, probe));
                let liveness = self.liveness.as_ref().map(|probe| (ProbeKind::Liveness, probe));
                (None, [readiness, liveness])
            }
        };
        startup
            .into_iter()
            .chain(later.into_iter().flatten())
            .filter_map(|(kind, probe)| Some((kind, probe.due_at_ms()?)))
    }

    /// One of them.
    pub(crate) fn get_mut(&mut self, kind: ProbeKind) -> Option<&mut ProbeState> {
        match kind {
            ProbeKind::Startup => self.startup.as_mut(),
            ProbeKind::Readiness => self.readiness.as_mut(),
            ProbeKind::Liveness => self.liveness.as_mut(),
        }
    }
}

fn plan(container: &Container, probe: &Probe, kind: ProbeKind) -> Result<ProbePlan, Unprepared> {
    let question = if let Some(exec) = &probe.exec {
        Question::Exec { argv: exec.command.clone().unwrap_or_default() }
    } else if let Some(http) = &probe.http_get {
        http_question(container, http)?
    } else if let Some(tcp) = &probe.tcp_socket {
        Question::Tcp { port: port(container, &tcp.port)? }
    } else {
        return Err(Unprepared::Refused(format!("the {} probe asks nothing", kind.name())));
    };
    let seconds = |value: Option<i32>, default: i32| {
        u64::from(value.filter(|value| *value > 0).unwrap_or(default).unsigned_abs()).saturating_mul(1000)
    };
    let count = |value: Option<i32>, default: i32| value.filter(|value| *value > 0).unwrap_or(default).unsigned_abs();
    let grace = probe.termination_grace_period_seconds.and_then(|seconds| u64::try_from(seconds).ok());
    Ok(ProbePlan {
        question,
        initial_delay_ms: seconds(probe.initial_delay_seconds, 0),
        period_ms: seconds(probe.period_seconds, DEFAULT_PERIOD_SECONDS),
        timeout_ms: seconds(probe.timeout_seconds, DEFAULT_TIMEOUT_SECONDS),
        success_threshold: count(probe.success_threshold, 1),
        failure_threshold: count(probe.failure_threshold, DEFAULT_FAILURE_THRESHOLD),
        grace_ms: grace.map(|seconds| seconds.saturating_mul(1000)),
    })
}

/// What an `httpGet` asks.
pub(crate) fn http_question(container: &Container, http: &HTTPGetAction) -> Result<Question, Unprepared> {
    let path = http.path.clone().filter(|path| !path.is_empty()).unwrap_or_else(|| "/".to_owned());
    let headers = http.http_headers.iter().flatten().map(|header| (header.name.clone(), header.value.clone()));
    Ok(Question::Http { port: port(container, &http.port)?, path, headers: headers.collect() })
}

fn port(container: &Container, port: &IntOrString) -> Result<u16, Unprepared> {
    let number = match port {
        IntOrString::Int(number) => Some(*number),
        IntOrString::String(name) => container
            .ports
            .iter()
            .flatten()
            .find(|port| port.name.as_deref() == Some(name))
            .map(|port| port.container_port)
            .or_else(|| name.parse().ok()),
    };
    number.and_then(|number| u16::try_from(number).ok()).filter(|number| *number > 0).ok_or_else(|| {
        let shown = match port {
            IntOrString::Int(number) => number.to_string(),
            IntOrString::String(name) => format!("\"{name}\""),
        };
        Unprepared::Refused(format!("a probe asks port {shown}, which container \"{}\" does not have", container.name))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn probes(fields: Value) -> Probes {
        let mut container = json!({"name": "c", "ports": [{"name": "web", "containerPort": 3000}]});
        container.as_object_mut().expect("an object").extend(fields.as_object().expect("an object").clone());
        Probes::of(&serde_json::from_value(container).expect("a container"), 1_000).expect("probes")
    }

    fn failed() -> CheckOutcome {
        CheckOutcome::Failed("no".to_owned())
    }

    #[test]
    fn without_probes_a_container_is_ready() {
        let probes = probes(json!({}));
        assert!(probes.is_ready() && !probes.is_undecided());
        assert_eq!(probes.active().count(), 0);
    }

    #[test]
    fn readiness_is_asked_eagerly_at_first_and_then_by_the_period() {
        let mut probes = probes(json!({"readinessProbe": {"tcpSocket": {"port": "web"}, "periodSeconds": 1}}));
        assert_eq!(probes.readiness.as_ref().expect("one").plan.question, Question::Tcp { port: 3000 });
        assert_eq!(probes.active().collect::<Vec<_>>(), [(ProbeKind::Readiness, 1_000)]);
        let mut now = 1_000;
        let mut pauses = Vec::new();
        for _ in 0..8 {
            let probe = probes.readiness.as_mut().expect("one");
            probe.begin();
            assert_eq!(probe.due_at_ms(), None);
            probe.finish(&failed(), now);
            let next = probe.due_at_ms().expect("due again");
            pauses.push(next - now);
            now = next;
            // Eager questions are more than three; only those a period apart count.
            assert_eq!(probes.is_undecided(), now <= 1_000 + 2_260);
        }
        assert_eq!(pauses, [20, 40, 80, 160, 320, 640, 1000, 1000]);
        probes.readiness.as_mut().expect("one").finish(&CheckOutcome::Passed, now);
        assert!(probes.is_ready());
        assert_eq!(probes.readiness.as_ref().expect("one").due_at_ms(), Some(now + 1000));
    }

    #[test]
    fn three_failures_in_a_row_undo_readiness() {
        let mut probes = probes(json!({"readinessProbe": {"httpGet": {"port": 80}, "periodSeconds": 1}}));
        let probe = probes.readiness.as_mut().expect("one");
        probe.finish(&CheckOutcome::Passed, 1_000);
        probe.finish(&failed(), 2_000);
        probe.finish(&failed(), 3_000);
        assert_eq!(probe.verdict, Some(true));
        probe.finish(&failed(), 4_000);
        assert_eq!(probe.verdict, Some(false));
        assert!(!probes.is_ready() && probes.fatal().is_none());
    }

    #[test]
    fn the_others_wait_for_startup() {
        let mut probes = probes(json!({
            "startupProbe": {"exec": {"command": ["true"]}, "failureThreshold": 1, "periodSeconds": 5},
            "livenessProbe": {"exec": {"command": ["true"]}, "initialDelaySeconds": 2, "failureThreshold": 1},
        }));
        assert_eq!(probes.active().collect::<Vec<_>>(), [(ProbeKind::Startup, 1_000)]);
        probes.startup.as_mut().expect("one").finish(&CheckOutcome::Passed, 1_500);
        assert!(probes.is_ready());
        assert_eq!(probes.active().collect::<Vec<_>>(), [(ProbeKind::Liveness, 3_000)]);
        probes.liveness.as_mut().expect("one").finish(&failed(), 3_000);
        assert_eq!(probes.fatal().map(|(kind, _)| kind), Some(ProbeKind::Liveness));
    }

    #[test]
    fn a_port_that_is_not_there_is_refused() {
        let container = serde_json::from_value(json!({"name": "c", "readinessProbe": {"tcpSocket": {"port": "nope"}}}));
        let found = Probes::of(&container.expect("a container"), 0);
        assert!(matches!(found, Err(Unprepared::Refused(message)) if message.contains("\"nope\"")));
    }
}
