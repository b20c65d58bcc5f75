//! The client: connections that each send one request after another.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::{AGENTS, CONNECTIONS, token};

/// The measured figures.
#[derive(Default)]
pub(crate) struct Figures {
    took: Vec<Duration>,
    errors: usize,
    time: Duration,
}

pub(crate) fn per_second(count: usize, time: Duration) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX)) / time.as_secs_f64()
}

impl Figures {
    pub(crate) fn add(&mut self, mut other: Self) {
        self.took.append(&mut other.took);
        self.took.sort_unstable();
        self.errors += other.errors;
        self.time += other.time;
    }

    /// Requests per second.
    pub(crate) fn rate(&self) -> f64 {
        per_second(self.took.len(), self.time)
    }

    /// The time in microseconds within which this percentage of the requests was answered.
    pub(crate) fn percentile(&self, percent: usize) -> f64 {
        let at = (self.took.len() * percent / 100).min(self.took.len().saturating_sub(1));
        self.took.get(at).map_or(f64::NAN, |took| took.as_secs_f64() * 1e6)
    }

    pub(crate) fn print(&self, route: &str) {
        let (p50, p99) = (self.percentile(50), self.percentile(99));
        println!("{route:<12} {:>12.0} {p50:>10.0} {p99:>10.0} {:>8}", self.rate(), self.errors);
    }
}

/// Loads a route for this time, with the agents in turns.
pub(crate) async fn load(address: SocketAddr, path: &'static str, time: Duration) -> Figures {
    let began = Instant::now();
    let mut connections = JoinSet::new();
    for first in 0..CONNECTIONS {
        connections.spawn(connection(address, path, first, began + time));
    }
    let mut figures = Figures::default();
    while let Some(one) = connections.join_next().await {
        let one = one.unwrap();
        figures.took.extend(one.took);
        figures.errors += one.errors;
    }
    figures.time = began.elapsed();
    figures
}

async fn connection(address: SocketAddr, path: &str, first: usize, until: Instant) -> Figures {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let mut figures = Figures::default();
    let requests: Vec<String> = (first..AGENTS).step_by(CONNECTIONS).map(|n| request(path, &token(n))).collect();
    for request in requests.iter().cycle() {
        let began = Instant::now();
        if began >= until {
            break;
        }
        stream.write_all(request.as_bytes()).await.unwrap();
        let ok = answer(&mut stream).await;
        figures.took.push(began.elapsed());
        figures.errors += usize::from(!ok);
    }
    figures
}

fn request(path: &str, token: &str) -> String {
    let body = r#"{"status": "idle"}"#;
    format!(
        "POST {path} HTTP/1.1\r\nhost: muster\r\nx-agent-token: {token}\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// Reads one response, which is small and of known length. Returns whether it is a success.
async fn answer(stream: &mut TcpStream) -> bool {
    let mut buffer = [0_u8; 2048];
    let mut length = 0;
    loop {
        length += stream.read(&mut buffer[length..]).await.unwrap();
        let text = std::str::from_utf8(&buffer[..length]).unwrap();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let size = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
        if body.len() >= size.parse().unwrap() {
            return head.starts_with("HTTP/1.1 200 ");
        }
    }
}
