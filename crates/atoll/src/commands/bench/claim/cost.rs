//! What a measurement costs others: the time and memory of processes.

use super::super::measure::{Row, resident_kib};
use crate::args::NamedProcess;
use crate::failure::{Exit, Failure};

/// What was used up until a moment.
pub(super) struct Cost {
    cpu_ms: Vec<f64>,
}

impl Cost {
    pub(super) fn now(processes: &[NamedProcess]) -> Result<Self, Failure> {
        let cpu_ms = processes.iter().map(|process| cpu_ms(process.pid)).collect::<Result<_, _>>()?;
        Ok(Self { cpu_ms })
    }

    /// What each of `claims` claims cost since an earlier moment.
    pub(super) fn since(&self, earlier: &Self, claims: f64, processes: &[NamedProcess]) -> Result<Vec<Row>, Failure> {
        let mut rows = Vec::new();
        let mut whole = 0.0;
        for (index, process) in processes.iter().enumerate() {
            let used = (self.cpu_ms[index] - earlier.cpu_ms[index]) / claims;
            whole += used;
            rows.push(Row::value(&format!("cpu_per_claim_{}", process.name), "ms", used));
            rows.push(Row::value(&format!("rss_{}", process.name), "MiB", resident_kib(process.pid)? / 1024.0));
        }
        if !processes.is_empty() {
            rows.push(Row::value("cpu_per_claim", "ms", whole));
        }
        Ok(rows)
    }
}

/// Processor time of a process so far.
fn cpu_ms(pid: u32) -> Result<f64, Failure> {
    let path = format!("/proc/{pid}/stat");
    let stat = std::fs::read_to_string(&path)
        .map_err(|error| Failure::because(Exit::Failure, format!("cannot read {path}"), &error))?;
    // The name, which may have spaces in it, ends with the last parenthesis; utime and stime are fields 14 and 15.
    let after = stat.rsplit_once(')').map_or("", |(_, after)| after);
    let ticks: f64 = after.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<f64>().ok()).sum();
    Ok(ticks * 1_000.0 / rustix::param::clock_ticks_per_second() as f64)
}
