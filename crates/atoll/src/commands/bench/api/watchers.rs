//! How long a write takes to reach those who watch.

use std::time::{Duration, Instant};

use futures::future::try_join_all;
use http::Method;

use super::connection::{Connection, Length, Target};
use super::{Kind, unexpected};
use crate::args::BenchApiArgs;
use crate::commands::bench::measure::{Row, Samples};
use crate::failure::Failure;

/// Writes, so far apart.
const WRITES: u32 = 50;
const WRITE_INTERVAL: Duration = Duration::from_millis(200);
/// The field that says which write it was.
const MARK: &str = "\"mark\":\"";

/// One write after the other; each watcher tells how long after the write's start it saw it.
pub(super) async fn measure(target: &Target, args: &BenchApiArgs, kind: Kind) -> Result<Vec<Row>, Failure> {
    if args.watchers == 0 {
        return Ok(Vec::new());
    }
    let mut writer = target.connect().await?;
    let mut version = String::new();
    write(target, &mut writer, kind, 0, &mut version).await?;
    let watches = try_join_all((0..args.watchers).map(|_| watch(target, kind, &version))).await?;
    let epoch = Instant::now();
    let starts = async {
        let mut starts = Vec::new();
        for number in 1..=WRITES {
            tokio::time::sleep(WRITE_INTERVAL).await;
            starts.push(epoch.elapsed());
            write(target, &mut writer, kind, number, &mut version).await?;
        }
        Ok::<_, Failure>(starts)
    };
    let seen = try_join_all(watches.into_iter().map(|connection| follow(connection, epoch)));
    let (starts, seen) = futures::future::try_join(starts, seen).await?;
    let mut samples = Samples::default();
    for (number, at) in seen.into_iter().flatten() {
        let started = usize::try_from(number).ok().and_then(|number| starts.get(number.checked_sub(1)?));
        samples.record(started.map_or(Duration::MAX, |started| at.saturating_sub(*started)), started.is_some());
    }
    Ok(vec![
        Row::value("watchers", "1", f64::from(args.watchers)),
        Row::value("objects", "1", f64::from(args.objects)),
        samples.row(match kind {
            Kind::ConfigMaps => "write_to_event",
            Kind::Sandboxes => "write_to_event_sandboxes",
        }),
    ])
}

/// Marks one object: it is made by the first write.
async fn write(
    target: &Target,
    writer: &mut Connection,
    kind: Kind,
    number: u32,
    version: &mut String,
) -> Result<(), Failure> {
    let mut metadata = format!(r#""name":"marked","annotations":{{"mark":"{number}"}}"#);
    if !version.is_empty() {
        metadata.push_str(&format!(r#","resourceVersion":"{version}""#));
    }
    let object = kind.object(&metadata, u64::from(number));
    let collection = kind.collection();
    let (method, path) = match number {
        0 => (Method::POST, collection),
        _ => (Method::PUT, format!("{collection}/marked")),
    };
    let (status, text) = writer.exchange(&target.request(&method, &path, &object)).await?;
    if !status.is_success() {
        return Err(unexpected("write an object", status, &text));
    }
    let written: serde_json::Value = serde_json::from_slice(&text).unwrap_or_default();
    *version = written["metadata"]["resourceVersion"].as_str().unwrap_or_default().to_owned();
    Ok(())
}

async fn watch(target: &Target, kind: Kind, version: &str) -> Result<Connection, Failure> {
    let mut connection = target.connect().await?;
    let path = format!("{}?watch=true&resourceVersion={version}", kind.collection());
    let (status, length) = connection.send(&target.request(&Method::GET, &path, b"")).await?;
    if !status.is_success() || length != Length::Chunks {
        return Err(unexpected("watch", status, b""));
    }
    Ok(connection)
}

/// Reads until the last write was seen: the number of each, and when it was seen.
async fn follow(mut connection: Connection, epoch: Instant) -> Result<Vec<(u32, Duration)>, Failure> {
    let (mut seen, mut line) = (Vec::new(), Vec::new());
    while let Some(data) = connection.chunk().await? {
        let at = epoch.elapsed();
        for piece in data.split_inclusive(|byte| *byte == b'\n') {
            line.extend_from_slice(piece);
            if !line.ends_with(b"\n") {
                break;
            }
            if let Some(number) = mark(&line) {
                seen.push((number, at));
            }
            line.clear();
        }
        if seen.last().is_some_and(|(number, _)| *number >= WRITES) {
            break;
        }
    }
    Ok(seen)
}

/// The number of the write that a line tells about.
fn mark(line: &[u8]) -> Option<u32> {
    let text = std::str::from_utf8(line).ok()?;
    let (_, rest) = text.split_once(MARK)?;
    rest.split('"').next()?.parse().ok()
}
