//! The metrics of the process, from `/proc`, under the names that the clients of Prometheus give them.

use std::path::{Path, PathBuf};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

/// The clock ticks of a second in `/proc`. Linux shows 100 to programs, whatever the kernel uses itself.
const TICKS_PER_SECOND: f64 = 100.0;

/// Reads the metrics of the process at each scrape. A value that cannot be read is left out.
#[derive(Debug)]
pub(super) struct ProcessMetrics {
    proc: PathBuf,
}

impl Default for ProcessMetrics {
    fn default() -> Self {
        Self { proc: "/proc".into() }
    }
}

/// What `/proc` says about the process.
#[derive(Debug, Default, PartialEq)]
struct ProcessState {
    cpu_seconds: Option<f64>,
    resident_bytes: Option<f64>,
    virtual_bytes: Option<f64>,
    open_fds: Option<f64>,
    max_fds: Option<f64>,
    start_seconds: Option<f64>,
}

impl ProcessState {
    fn read(proc: &Path) -> Self {
        let text = |path: &str| std::fs::read_to_string(proc.join(path)).unwrap_or_default();
        let (stat, status) = (text("self/stat"), text("self/status"));
        // The fields after the name of the program, which is in parentheses and may have spaces.
        let fields: Vec<&str> = stat.rsplit_once(") ").map(|(_, rest)| rest.split(' ').collect()).unwrap_or_default();
        let ticks = |field: usize| fields.get(field)?.parse::<f64>().ok().map(|ticks| ticks / TICKS_PER_SECOND);
        let kibibytes = |name: &str| value(&status, name).map(|kibibytes| kibibytes * 1024.0);
        let folder = std::fs::read_dir(proc.join("self/fd")).ok();
        Self {
            cpu_seconds: ticks(11).zip(ticks(12)).map(|(user, system)| user + system),
            resident_bytes: kibibytes("VmRSS:"),
            virtual_bytes: kibibytes("VmSize:"),
            // The folder is open itself while it is read.
            open_fds: folder.map(|files| files.map(|_| 1.0).sum::<f64>() - 1.0),
            max_fds: value(&text("self/limits"), "Max open files"),
            start_seconds: ticks(19).zip(value(&text("stat"), "btime ")).map(|(start, boot)| boot + start),
        }
    }
}

/// The number after the name at the beginning of a line.
fn value(text: &str, name: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()?.parse().ok()
}

impl Collector for ProcessMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), std::fmt::Error> {
        let state = ProcessState::read(&self.proc);
        if let Some(seconds) = state.cpu_seconds {
            let help = "CPU time of the process, user and system, in seconds";
            let counter = encoder.encode_descriptor("process_cpu_seconds", help, None, MetricType::Counter)?;
            ConstCounter::new(seconds).encode(counter)?;
        }
        for (name, help, value) in [
            ("process_resident_memory_bytes", "Resident memory in bytes", state.resident_bytes),
            ("process_virtual_memory_bytes", "Virtual memory in bytes", state.virtual_bytes),
            ("process_open_fds", "Open file descriptors", state.open_fds),
            ("process_max_fds", "The largest number of open file descriptors", state.max_fds),
            ("process_start_time_seconds", "Start of the process, in seconds since 1970", state.start_seconds),
        ] {
            if let Some(value) = value {
                ConstGauge::new(value).encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_values_are_those_of_proc_and_what_is_missing_is_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        file("self/stat", "7 (a b) c) S 1 2 3 4 5 6 7 8 9 10 250 50 0 0 20 0 3 0 1000 1 2 3\n");
        file("self/status", "Name:\tmuster\nVmSize:\t  20 kB\nVmRSS:\t  10 kB\n");
        file("stat", "cpu 1 2\nbtime 1700000000\n");
        let expected = ProcessState {
            cpu_seconds: Some(3.0),
            resident_bytes: Some(10_240.0),
            virtual_bytes: Some(20_480.0),
            open_fds: None,
            max_fds: None,
            start_seconds: Some(1_700_000_010.0),
        };
        assert_eq!(ProcessState::read(folder.path()), expected);
    }

    #[test]
    fn this_process_has_all_values() {
        let state = ProcessState::read(Path::new("/proc"));
        assert!(state.open_fds > Some(2.0) && state.max_fds >= state.open_fds, "{state:?}");
        assert!(state.resident_bytes > Some(1e6) && state.virtual_bytes >= state.resident_bytes, "{state:?}");
        assert!(state.cpu_seconds >= Some(0.0) && state.start_seconds > Some(1.7e9), "{state:?}");
    }
}
