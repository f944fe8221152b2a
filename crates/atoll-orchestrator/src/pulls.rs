//! Pull requests out of a run's work. What will be sent is fixed first and put to a person as a question; only a yes to exactly
//! that pushes the branch and opens the pull request. Both may be done twice without being done twice, so after a crash
//! asking again finishes what was begun.

use atoll_api::v1;
use atoll_policy::Forge;
use atoll_rt::ids;
use atoll_stdx::{Hint, Secret, chain};
use atoll_store::{AppendBatch, JournalError, RecordExpect};
use serde_json::{Value, json};

use crate::forge::{self, Wanted};
use crate::http::refusal::Refusal;
use crate::orchestrator::{Shared, all_records};
use crate::records::{self, Acted, RunRecord, put};

/// What the question calls itself.
pub(crate) const TOOL: &str = "pull_request";
const TITLE_CHARS_MAX: usize = 72;
const BODY_CHARS_MAX: usize = 16 * 1024;
const BRANCH_CHARS_MAX: usize = 255;

/// The pull request of a run, with the version of its record.
pub(crate) async fn stored(shared: &Shared, run_id: &str) -> Result<Option<(v1::PullRequest, u64)>, Refusal> {
    let record = shared.journal.record(records::PULL_REQUEST, run_id).await?;
    Ok(record.and_then(|record| Some((serde_json::from_value(record.body).ok()?, record.version))))
}

/// Questions about pull requests that wait for an answer.
pub(crate) async fn pending(shared: &Shared) -> Result<Vec<v1::Approval>, Refusal> {
    let now_ms = shared.clock.now_unix_ms();
    let records = all_records(&shared.journal, records::PULL_REQUEST).await?;
    let pulls = records.into_iter().filter_map(|record| serde_json::from_value::<v1::PullRequest>(record.body).ok());
    let open =
        |approval: &v1::Approval| approval.state == v1::ApprovalState::Pending && now_ms < approval.expires_at_ms;
    Ok(pulls.map(|pull| pull.approval).filter(open).collect())
}

/// Wants a pull request of a run that is over: puts the question, finds the one that was put, or finishes what a yes began.
pub(crate) async fn propose(
    shared: &Shared,
    run_id: &str,
    wanted: v1::OpenPullRequest,
    by: &str,
) -> Result<v1::PullRequest, Refusal> {
    let input = input(shared, run_id, wanted).await?;
    let digest = atoll_policy::input_digest(&input);
    let known = stored(shared, run_id).await?;
    let now_ms = shared.clock.now_unix_ms();
    if let Some((known, version)) = &known
        && known.approval.input_digest == digest
    {
        match known.approval.state {
            v1::ApprovalState::Granted if known.url.is_none() => return finish(shared, known.clone(), *version).await,
            v1::ApprovalState::Granted => return Ok(known.clone()),
            v1::ApprovalState::Pending if now_ms < known.approval.expires_at_ms => return Ok(known.clone()),
            _ => {}
        }
    }
    let expiry = shared.policy.current().governance().approval_expiry.as_millis();
    let title = input["title"].as_str().unwrap_or_default();
    let approval = v1::Approval {
        id: ids::ulid(),
        run_id: run_id.to_owned(),
        agent: v1::AgentRef { id: 0, name: "atoll".to_owned() },
        call_id: TOOL.to_owned(),
        tool: TOOL.to_owned(),
        summary: format!("pull_request: {title}"),
        input_digest: digest,
        effects: vec!["git_push".to_owned()],
        reason: "A pull request publishes the run's work, which needs a person's approval.".to_owned(),
        state: v1::ApprovalState::Pending,
        created_at_ms: now_ms,
        expires_at_ms: now_ms.saturating_add(u64::try_from(expiry).unwrap_or(u64::MAX)),
        decided_at_ms: None,
        decided_by: None,
        decision_reason: None,
        input,
    };
    let pull = v1::PullRequest { approval, url: None, error: None };
    let expect = known.map_or(RecordExpect::Absent, |(_, version)| RecordExpect::Version(version));
    write(shared, &pull, expect, &format!("person/{by}"), "wanted").await?;
    Ok(pull)
}

/// All that will be sent.
async fn input(shared: &Shared, run_id: &str, wanted: v1::OpenPullRequest) -> Result<Value, Refusal> {
    let record = shared.journal.record(records::RUN, run_id).await?;
    let missing = || Refusal::not_found(format!("there is no run {run_id}")).hint("`atoll runs ls` lists them");
    let record = record.and_then(|record| serde_json::from_value::<RunRecord>(record.body).ok()).ok_or_else(missing)?;
    if !record.closed {
        return Err(Refusal::conflict(format!("run {run_id} is not over"), "wait for its end"));
    }
    let Some(result) = record.summary.result.clone().filter(|result| result.commits > 0) else {
        return Err(Refusal::not_found("the run has made no commit"));
    };
    let log = shared.log(run_id).await?;
    let (state, _) = crate::view::retell(run_id, &log).map_err(crate::orchestrator::HistoryError::from)?;
    let repo = state.config.repo.as_ref();
    let remote = repo.and_then(|repo| repo.remote_url.as_deref()).ok_or_else(|| {
        Refusal::invalid("the project has no remote to open a pull request at", "add one: `git remote add origin URL`")
    })?;
    let (forge, project) = forge_of(shared, remote)?;
    let base = wanted.base.or_else(|| repo.and_then(|repo| repo.branch.clone())).unwrap_or_else(|| "main".to_owned());
    if base.is_empty() || base.len() > BRANCH_CHARS_MAX || base.starts_with('-') || base.chars().any(char::is_control) {
        return Err(Refusal::invalid("the branch it is to go into is none", "give the name of a branch"));
    }
    let detail = crate::view::detail(&state, log.len() as u64);
    let mut body = format!("{}\n\n", detail.final_text.as_deref().unwrap_or_default().trim());
    body.push_str(&format!("Task: {}\n\n", record.summary.task.trim()));
    let checkpoints = shared.repos.of_run(run_id).checkpoints().await;
    for commit in checkpoints.unwrap_or_default().iter().skip(1) {
        body.push_str(&format!("- {} ({})\n", commit.title, commit.author));
    }
    body.push_str(&format!(
        "\n{} commits, {} files, +{} -{}. Made by Atoll, run {run_id}.\n",
        result.commits, result.files_changed, result.insertions, result.deletions
    ));
    Ok(json!({
        "forge": forge.url,
        "project": project,
        "branch": result.branch,
        "commit": result.commit,
        "base": base,
        "title": title(&record.summary.task),
        "body": body.trim_start().chars().take(BODY_CHARS_MAX).collect::<String>(),
    }))
}

fn title(task: &str) -> String {
    let line = task.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut title: String = line.chars().take(TITLE_CHARS_MAX).collect();
    if title.len() < line.len() {
        title.push('…');
    }
    title
}

fn forge_of(shared: &Shared, remote: &str) -> Result<(Forge, String), Refusal> {
    let (host, project) = forge::place(remote).ok_or_else(|| {
        Refusal::invalid("the project's remote is on no forge", "a remote such as https://github.com/owner/name")
    })?;
    let forge = shared.policy.current().forge(&host).ok_or_else(|| {
        let hint = format!("add `forges: {{\"{host}\": {{kind: gitea, token_env: …}}}}` to the policy");
        Refusal::invalid(&format!("the policy knows no forge at {host}"), &hint)
    })?;
    Ok((forge, project))
}

/// A person's answer. A yes to exactly this input pushes and opens.
pub(crate) async fn decide(
    shared: &Shared,
    known: &v1::Approval,
    body: v1::DecideApproval,
    by: &str,
) -> Result<v1::Approval, Refusal> {
    let closed = || Refusal::conflict("the approval is not open any more", "ask for the pull request again");
    let (mut pull, version) = stored(shared, &known.run_id).await?.ok_or_else(closed)?;
    let approval = &mut pull.approval;
    if approval.id != known.id || approval.state != v1::ApprovalState::Pending {
        return Err(closed());
    }
    let now_ms = shared.clock.now_unix_ms();
    let expired = now_ms >= approval.expires_at_ms;
    (approval.state, approval.decided_at_ms) = match body.decision {
        _ if expired => (v1::ApprovalState::Expired, Some(now_ms)),
        v1::ApprovalDecision::Grant => (v1::ApprovalState::Granted, Some(now_ms)),
        v1::ApprovalDecision::Deny => (v1::ApprovalState::Denied, Some(now_ms)),
    };
    (approval.decided_by, approval.decision_reason) = (Some(by.to_owned()), body.reason);
    let outcome = match pull.approval.state {
        v1::ApprovalState::Granted => "granted",
        v1::ApprovalState::Expired => "expired",
        _ => "denied",
    };
    write(shared, &pull, RecordExpect::Version(version), &format!("person/{by}"), outcome).await?;
    if expired {
        return Err(closed());
    }
    if pull.approval.state == v1::ApprovalState::Granted {
        let (_, version) = stored(shared, &known.run_id).await?.ok_or_else(closed)?;
        pull = finish(shared, pull, version).await?;
    }
    Ok(pull.approval)
}

/// Does what was approved, and nothing else.
async fn finish(shared: &Shared, mut pull: v1::PullRequest, version: u64) -> Result<v1::PullRequest, Refusal> {
    let outcome = match carry_out(shared, &pull.approval).await {
        Ok(url) => {
            (pull.url, pull.error) = (Some(url), None);
            "opened"
        }
        Err(error) => {
            pull.error = Some(error);
            "failed"
        }
    };
    write(shared, &pull, RecordExpect::Version(version), "atoll", outcome).await?;
    Ok(pull)
}

async fn carry_out(shared: &Shared, approval: &v1::Approval) -> Result<String, String> {
    let field = |name: &str| approval.input[name].as_str().unwrap_or_default();
    let host = field("forge").split_once("://").map_or("", |(_, host)| host);
    let policy = shared.policy.current();
    let forge = policy.forge(host).filter(|forge| forge.url == field("forge"));
    let forge = forge.ok_or_else(|| format!("the policy knows no forge at {host} any more"))?;
    let token = std::env::var(&forge.token_env).map(Secret::new).map_err(|_unset| {
        format!("the plane's environment has no {}, which holds the forge's token", forge.token_env)
    })?;
    let url = format!("{}/{}.git", forge.url, field("project"));
    let repo = shared.repos.of_run(&approval.run_id);
    let authorization = forge::git_authorization(&forge, &token);
    repo.push_as(&url, field("commit"), field("branch"), &authorization).await.map_err(|error| {
        let hint = error.hint().map(|hint| format!(" ({hint})")).unwrap_or_default();
        format!("the push to {url} failed: {}{hint}", chain(&error))
    })?;
    let wanted = Wanted {
        project: field("project"),
        head: field("branch"),
        base: field("base"),
        title: field("title"),
        body: field("body"),
    };
    let opened = shared.forges.open(&forge, &token, &wanted).await;
    opened.map_err(|error| format!("the branch is pushed, but the forge opened no pull request: {error}"))
}

/// Makes a change durable, with the audit record of it.
async fn write(
    shared: &Shared,
    pull: &v1::PullRequest,
    expect: RecordExpect,
    actor: &str,
    outcome: &str,
) -> Result<(), Refusal> {
    let run_id = &pull.approval.run_id;
    let acted = Acted { at_ms: shared.clock.now_unix_ms(), run_id, actor };
    let detail = json!({
        "approval_id": pull.approval.id,
        "summary": pull.approval.summary,
        "input_digest": pull.approval.input_digest,
        "url": pull.url,
        "error": pull.error,
    });
    let batch = AppendBatch {
        run_id: run_id.clone(),
        audit: vec![acted.entry(TOOL, outcome, detail)],
        records: vec![
            put(records::PULL_REQUEST, run_id, pull, expect),
            put(records::APPROVAL, &pull.approval.id, &pull.approval, RecordExpect::Any),
        ],
        ..AppendBatch::default()
    };
    match shared.journal.append(batch).await {
        Ok(()) => Ok(()),
        Err(JournalError::RecordConflict { .. }) => {
            Err(Refusal::conflict("somebody else answered at the same time", "look at it again"))
        }
        Err(error) => Err(error.into()),
    }
}
