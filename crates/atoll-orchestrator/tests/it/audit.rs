//! The audit trail against those who would rather not be in it.

use atoll_api::v1::{AuditHeads, AuditList, AuditVerification};
use reqwest::Method;

use super::world::{Project, Setup, World, conversation};

/// Runs SQL on the database of a plane that is stopped, as somebody would who has the disk.
fn tamper(world: &World, sql: &str) {
    let database = world.directory.join("runs.db");
    let script = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.executescript(sys.argv[2]); c.commit()";
    let status = std::process::Command::new("python3").args(["-c", script]).arg(database).arg(sql).status();
    assert!(status.expect("python runs").success());
}

async fn world() -> World {
    let world = World::new(Setup::new(conversation("conversation.yaml"))).await;
    let run = world.submit("make the tests pass", &Project::example("calculator")).await;
    world.finish(&run).await;
    world.closed(&run).await;
    world
}

/// Removes the newest records and makes the chain end where they began.
const TRUNCATE: &str = "
    DELETE FROM audit WHERE seq > 5;
    DELETE FROM audit_head;
    INSERT INTO audit_head SELECT seq, hash FROM audit WHERE seq = 5;
";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chain_that_was_cut_off_is_told_by_its_signed_heads() {
    let mut world = world().await;
    let kept: AuditHeads = world.get("/v1/audit/heads").await;
    let newest = kept.heads.last().expect("one was made").clone();
    let sound: AuditVerification = world.get("/v1/audit/verify").await;
    assert!(sound.ok && sound.signed_heads == 1 && sound.records == newest.records, "{sound:?}");
    world.stop().await;
    tamper(&world, TRUNCATE);
    world.start().await;
    let broken: AuditVerification = world.get("/v1/audit/verify").await;
    let found = broken.broken.expect("it is told");
    assert_eq!((found.seq, broken.ok), (newest.records, false));
    assert_eq!(found.reason, "a signed head says that it was there, and it is missing");
}

/// The twin: without signed heads the same cut leaves a chain that holds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_signed_heads_the_same_cut_is_not_seen() {
    let mut world = world().await;
    let elsewhere: AuditHeads = world.get("/v1/audit/heads").await;
    world.stop().await;
    tamper(&world, TRUNCATE);
    std::fs::remove_file(world.directory.join("data/audit/heads.jsonl")).expect("it is there");
    world.start().await;
    let fooled: AuditVerification = world.get("/v1/audit/verify").await;
    assert!(fooled.ok && fooled.records >= 5, "{fooled:?}");
    // A copy that was kept elsewhere tells all the same.
    let told: AuditVerification = world.post("/v1/audit/verify", &elsewhere).await;
    assert!(!told.ok, "{told:?}");
    let mut forged = elsewhere.clone();
    forged.heads[0].records = 5;
    let told: AuditVerification = world.post("/v1/audit/verify", &forged).await;
    assert_eq!(told.broken.expect("it is told").reason, "the signature of its signed head does not fit");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_are_found_by_who_what_and_how() {
    let world = world().await;
    let find = async |query: &str| world.get::<AuditList>(&format!("/v1/audit?{query}")).await.records;
    let all = find("").await;
    let denied = find("verdict=deny").await;
    assert_eq!(denied.len(), 1);
    assert_eq!(find("actor=agent/code-writer&verdict=deny").await, denied);
    assert!(find("actor=agent/planner&verdict=deny").await.is_empty());
    let submitted = find("action=run/").await;
    assert_eq!(submitted[0].body["action"], "run/submit");
    let middle = all[all.len() / 2].body["at_ms"].as_u64().expect("a time");
    let (before, after) = (find(&format!("until_ms={middle}")).await, find(&format!("from_ms={middle}")).await);
    assert_eq!(before.len() + after.len(), all.len());
    let bad = world.request(Method::GET, "/v1/audit?after=x");
    assert!(world.refused_status(bad).await.is_client_error());
}

const MS_PER_DAY: u64 = 24 * 60 * 60 * 1000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_past_their_time_go_and_the_chain_tells_of_it() {
    let mut world = world().await;
    let before: AuditVerification = world.get("/v1/audit/verify").await;
    let elsewhere: AuditHeads = world.get("/v1/audit/heads").await;
    let now_ms = atoll_rt::clock::now_unix_ms();
    assert_eq!(world.orchestrator().forget_old_audit(now_ms + 89 * MS_PER_DAY).await.expect("it works"), None);
    let through = world.orchestrator().forget_old_audit(now_ms + 91 * MS_PER_DAY).await.expect("it works");
    assert_eq!(through, Some(before.records - 1), "the newest stays");
    let left: AuditList = world.get("/v1/audit").await;
    assert_eq!(left.records.len(), 2, "{left:?}");
    assert_eq!(left.records[1].body["action"], "audit/forget");
    let sound: AuditVerification = world.post("/v1/audit/verify", &elsewhere).await;
    assert!(sound.ok && sound.records == 2, "{sound:?}");

    // It goes on after a restart, and again.
    world.stop().await;
    world.start().await;
    let again = world.orchestrator().forget_old_audit(now_ms + 91 * MS_PER_DAY).await.expect("it works");
    assert!(again > through, "{again:?}");
    let sound: AuditVerification = world.post("/v1/audit/verify", &elsewhere).await;
    assert!(sound.ok, "{sound:?}");

    // Whoever removes the beginning by hand is told.
    world.stop().await;
    tamper(
        &world,
        "UPDATE audit_floor SET seq = seq + 1, hash = (SELECT hash FROM audit WHERE seq = audit_floor.seq + 1);
        DELETE FROM audit WHERE seq <= (SELECT seq FROM audit_floor);",
    );
    world.start().await;
    let broken: AuditVerification = world.get("/v1/audit/verify").await;
    assert_eq!(broken.broken.expect("it is told").reason, "it is missing, and no record says why");
}
