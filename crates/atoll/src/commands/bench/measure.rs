//! Samples, percentiles, and how they are printed.

use std::time::Duration;

use serde::Serialize;
use serde_json::{Map, Value};

use crate::failure::{Exit, Failure};
use crate::plane::Plane;
use crate::printer::Printer;

/// Times of one thing done many times.
#[derive(Debug, Default)]
pub(crate) struct Samples {
    milliseconds: Vec<f64>,
    attempts: usize,
}

impl Samples {
    pub(crate) fn record(&mut self, elapsed: Duration, ok: bool) {
        self.attempts += 1;
        if ok {
            self.milliseconds.push(elapsed.as_secs_f64() * 1_000.0);
        }
    }

    pub(crate) fn row(self, name: &str) -> Row {
        self.row_in(name, None, "ms", 1.0)
    }

    /// The same for something that others made.
    pub(crate) fn row_of_peer(self, name: &str, peer: &'static str) -> Row {
        self.row_in(name, Some(peer), "ms", 1.0)
    }

    /// The same in microseconds.
    pub(crate) fn row_us(self, name: &str) -> Row {
        self.row_in(name, None, "µs", 1_000.0)
    }

    fn row_in(mut self, name: &str, peer: Option<&'static str>, unit: &'static str, per_millisecond: f64) -> Row {
        self.milliseconds.iter_mut().for_each(|sample| *sample *= per_millisecond);
        self.milliseconds.sort_by(f64::total_cmp);
        Row::Percentiles {
            name: name.to_owned(),
            peer,
            unit,
            n: self.attempts,
            ok: self.milliseconds.len(),
            p50: percentile(&self.milliseconds, 50),
            p95: percentile(&self.milliseconds, 95),
            p99: percentile(&self.milliseconds, 99),
            max: percentile(&self.milliseconds, 100),
        }
    }
}

/// The nearest-rank percentile of sorted samples; 0 without any.
fn percentile(sorted: &[f64], percent: usize) -> f64 {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied().unwrap_or(0.0)
}

/// One line of a report.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(crate) enum Row {
    Percentiles {
        name: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        peer: Option<&'static str>,
        unit: &'static str,
        n: usize,
        ok: usize,
        p50: f64,
        p95: f64,
        p99: f64,
        max: f64,
    },
    Value {
        name: String,
        unit: &'static str,
        value: f64,
    },
}

impl Row {
    pub(crate) fn value(name: &str, unit: &'static str, value: f64) -> Self {
        Self::Value { name: name.to_owned(), unit, value }
    }
}

/// What `atoll bench NAME` prints.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    bench: &'static str,
    version: &'static str,
    conditions: Map<String, Value>,
    rows: Vec<Row>,
}

impl Report {
    pub(crate) fn new(bench: &'static str, plane: Option<&Plane>, rows: Vec<Row>) -> Self {
        let mut conditions = Map::new();
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        conditions.insert("cpus".to_owned(), cpus.into());
        conditions.insert("kernel".to_owned(), kernel().into());
        if let Some(plane) = plane {
            conditions.insert("plane_version".to_owned(), plane.info.version.clone().into());
        }
        let build = if cfg!(debug_assertions) { "debug" } else { "release" };
        conditions.insert("build".to_owned(), build.into());
        conditions.insert("load_1min_before".to_owned(), load().into());
        Self { bench, version: env!("CARGO_PKG_VERSION"), conditions, rows }
    }

    #[must_use]
    pub(crate) fn condition(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.conditions.insert(name.to_owned(), value.into());
        self
    }

    pub(crate) fn print(&self, printer: &Printer) {
        if printer.is_json() {
            printer.json(self);
            return;
        }
        let conditions: Vec<String> =
            self.conditions.iter().map(|(name, value)| format!("{name} {}", text(value))).collect();
        printer.data(printer.dim(&conditions.join(", ")));
        let rows: Vec<Vec<String>> = self.rows.iter().map(cells).collect();
        printer.table(&["ROW", "UNIT", "N", "OK", "P50", "P95", "P99", "MAX"], &rows);
    }
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn cells(row: &Row) -> Vec<String> {
    match row {
        Row::Percentiles { name, peer, unit, n, ok, p50, p95, p99, max } => {
            let success = format!("{:.1}%", 100.0 * *ok as f64 / (*n).max(1) as f64);
            let name = peer.map_or_else(|| name.clone(), |peer| format!("{name} ({peer})"));
            let mut cells = vec![name, (*unit).to_owned(), n.to_string(), success];
            cells.extend([p50, p95, p99, max].map(|value| format!("{value:.2}")));
            cells
        }
        Row::Value { name, unit, value } => {
            vec![name.clone(), (*unit).to_owned(), "1".to_owned(), "-".to_owned(), format!("{value:.2}")]
        }
    }
}

fn kernel() -> String {
    std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned()
}

fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or_default().to_owned()
}

/// Resident memory of a process, in KiB.
pub(crate) fn resident_kib(pid: u32) -> Result<f64, Failure> {
    let path = format!("/proc/{pid}/status");
    let status = std::fs::read_to_string(&path)
        .map_err(|error| Failure::because(Exit::Failure, format!("cannot read {path}"), &error))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    Ok(line.trim().trim_end_matches(" kB").parse().unwrap_or(0.0))
}

/// Whether a process was started with an argument.
pub(super) fn has_argument(pid: u32, argument: &str) -> bool {
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    line.split(|byte| *byte == 0).any(|word| word == argument.as_bytes())
}

/// Processes started by this one.
pub(crate) fn children(pid: u32) -> Vec<u32> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_samples_of_the_nearest_rank() {
        let sorted: Vec<f64> = (1..=100).map(f64::from).collect();
        assert_eq!([50, 95, 99, 100].map(|percent| percentile(&sorted, percent)), [50.0, 95.0, 99.0, 100.0]);
        assert_eq!(percentile(&[7.0], 99), 7.0);
        assert_eq!(percentile(&[], 50), 0.0);
    }
}
