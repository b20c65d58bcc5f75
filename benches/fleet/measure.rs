//! Measurements: CPU time and memory of a process, and the requests that the API server counted.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use kube::Client;
use muster_harness::Failure;
use serde::{Deserialize, Serialize};

/// Numbers by name.
pub(crate) type Counts = BTreeMap<String, u64>;

/// The resources whose requests are counted.
const RESOURCES: [&str; 5] = ["agents", "boards", "agentgateways", "secrets", "events"];
/// The verbs that are counted. A watch is one request for the whole run.
const VERBS: [&str; 6] = ["POST", "PUT", "PATCH", "DELETE", "GET", "LIST"];
/// Linux reports the CPU time of processes in hundredths of a second on all platforms.
const TICKS_PER_SECOND: f64 = 100.0;

/// The memory of a process, in KiB.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Memory {
    /// The memory in use.
    pub(crate) resident: f64,
    /// The part of it that is pages of the program's file. The kernel can drop them, and reads them again when they are used.
    pub(crate) file: f64,
    /// The highest memory in use so far.
    pub(crate) peak: f64,
}

/// Measures elapsed time and the CPU time of a process.
pub(crate) struct Stopwatch {
    pid: u32,
    began: Instant,
    cpu: f64,
}

impl Stopwatch {
    /// Starts now.
    pub(crate) fn start(pid: u32) -> Result<Self, Failure> {
        Ok(Self { pid, began: Instant::now(), cpu: cpu(pid)? })
    }

    /// The seconds since the start.
    pub(crate) fn seconds(&self) -> f64 {
        self.began.elapsed().as_secs_f64()
    }

    /// The seconds from the start to `end`.
    pub(crate) fn seconds_to(&self, end: Instant) -> f64 {
        end.saturating_duration_since(self.began).as_secs_f64()
    }

    /// The CPU seconds since the start.
    pub(crate) fn cpu(&self) -> Result<f64, Failure> {
        Ok(cpu(self.pid)? - self.cpu)
    }
}

/// The CPU seconds of a process so far: its total, in hundredths of a second, or the exact sum of its threads, if that is more. The sum
/// lacks the threads that have ended.
pub(crate) fn cpu(pid: u32) -> Result<f64, Failure> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name of the command, in parentheses, may contain spaces. The state follows it, then ten fields, then utime and stime.
    let (_, fields) = text.rsplit_once(") ").ok_or("the process has no CPU time")?;
    let ticks: f64 = fields.split(' ').skip(11).take(2).filter_map(|field| field.parse::<f64>().ok()).sum();
    let mut nanoseconds = 0.0;
    for thread in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        // A thread may end meanwhile.
        let text = std::fs::read_to_string(thread?.path().join("schedstat")).unwrap_or_default();
        nanoseconds += text.split(' ').next().and_then(|field| field.parse::<f64>().ok()).unwrap_or_default();
    }
    Ok(f64::max(ticks / TICKS_PER_SECOND, nanoseconds / 1e9))
}

/// The memory of a process.
pub(crate) fn memory(pid: u32) -> Result<Memory, Failure> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok()).unwrap_or_default()
    };
    Ok(Memory { resident: field("VmRSS:"), file: field("RssFile:"), peak: field("VmHWM:") })
}

/// The API server's counters.
pub(crate) struct ApiServer {
    /// The requests, by resource and verb.
    pub(crate) requests: Counts,
    /// The CPU seconds.
    pub(crate) cpu: f64,
}

impl ApiServer {
    /// Reads the counters.
    pub(crate) async fn read(client: &Client) -> Result<Self, Failure> {
        let text = client.request_text(http::Request::get("/metrics").body(Vec::new())?).await?;
        let mut requests = Counts::new();
        let mut cpu = 0.0;
        for line in text.lines() {
            if let Some(seconds) = line.strip_prefix("process_cpu_seconds_total ") {
                cpu = seconds.parse()?;
            } else if let Some((name, count)) = request_count(line) {
                *requests.entry(name).or_default() += count;
            }
        }
        Ok(Self { requests, cpu })
    }

    /// The difference to earlier counters.
    pub(crate) fn since(&self, earlier: &Self) -> Self {
        Self { requests: since(&self.requests, &earlier.requests), cpu: self.cpu - earlier.cpu }
    }

    /// The number of requests that write.
    pub(crate) fn writes(&self) -> u64 {
        let is_read = |name: &str| name.contains(" GET") || name.contains(" LIST");
        self.requests.iter().filter(|(name, _)| !is_read(name)).map(|(_, count)| count).sum()
    }
}

/// The increase of each number since an earlier reading. Unchanged numbers are left out.
pub(crate) fn since(now: &Counts, earlier: &Counts) -> Counts {
    let difference = |(name, count): (&String, &u64)| {
        let more = count.saturating_sub(earlier.get(name).copied().unwrap_or_default());
        (more > 0).then(|| (name.clone(), more))
    };
    now.iter().filter_map(difference).collect()
}

/// The name and the number of one series of `apiserver_request_total`.
fn request_count(line: &str) -> Option<(String, u64)> {
    let (labels, count) = line.strip_prefix("apiserver_request_total{")?.rsplit_once("} ")?;
    let label = |name: &str| {
        let (_, rest) = labels.split_once(&format!("{name}=\""))?;
        rest.split_once('"').map(|(value, _)| value)
    };
    // `subresource="` also ends in `resource="`, but the label `resource` comes first.
    let (resource, subresource, verb) = (label("resource")?, label("subresource")?, label("verb")?);
    if !RESOURCES.contains(&resource) || !VERBS.contains(&verb) {
        return None;
    }
    let slash = if subresource.is_empty() { "" } else { "/" };
    let refused = if label("code")?.starts_with(['4', '5']) { ", refused" } else { "" };
    Some((format!("{resource}{slash}{subresource} {verb}{refused}"), count.parse().ok()?))
}

/// The value below which `percent` of the values are; the highest value for 99 % of 20 values.
pub(crate) fn percentile(values: &[f64], percent: usize) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let index = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted.get(index).copied().unwrap_or(f64::NAN)
}

/// The time between two looks at a condition.
pub(crate) const LOOK_INTERVAL: Duration = Duration::from_millis(20);
