//! The race of several addresses of one host (Happy Eyeballs, RFC 8305): a dead address costs a quarter of a second, not the whole deadline.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;

/// How long an attempt has before the next address is tried beside it (RFC 8305, section 5).
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);
/// The most addresses of a host that are tried: an answer of a name server may hold hundreds.
const MAX_ADDRESSES: usize = 16;

/// The first connection that succeeds. The attempts begin one after the other, the next one after a failure at once; the others are dropped.
/// The families take turns, beginning with the one of the first address, so that a host without IPv6 does not try all IPv6 addresses first.
///
/// # Errors
/// The last failure, when all attempts failed.
pub(super) async fn first<T, F: Future<Output = io::Result<T>>>(
    addresses: &[SocketAddr],
    attempt: impl Fn(SocketAddr) -> F,
) -> io::Result<T> {
    let mut waiting = by_turns(addresses).into_iter().take(MAX_ADDRESSES);
    let mut running = FuturesUnordered::new();
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    loop {
        let more = waiting.next();
        let is_last = more.is_none();
        running.extend(more.map(&attempt));
        // Both branches are cancel-safe: the attempts stay in the set.
        tokio::select! {
            biased;
            ended = running.next() => match ended {
                Some(Ok(connection)) => return Ok(connection),
                Some(Err(error)) => failure = error,
                None => return Err(failure),
            },
            () = tokio::time::sleep(ATTEMPT_DELAY), if !is_last => {}
        }
    }
}

/// The addresses with the families in turns.
fn by_turns(addresses: &[SocketAddr]) -> Vec<SocketAddr> {
    let Some(begins) = addresses.first().map(SocketAddr::is_ipv6) else { return Vec::new() };
    let (one, other): (Vec<_>, Vec<_>) = addresses.iter().partition(|address| address.is_ipv6() == begins);
    let longest = one.len().max(other.len());
    (0..longest).flat_map(|at| one.get(at).into_iter().chain(other.get(at)).copied().collect::<Vec<_>>()).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tokio::time::Instant;

    use super::*;

    fn addresses(of: &[&str]) -> Vec<SocketAddr> {
        of.iter().map(|address| address.parse().unwrap()).collect()
    }

    const DEAD: u16 = 1;
    const CLOSED: u16 = 2;
    const OPEN: u16 = 3;

    /// Connects to port 3, finds port 2 closed, and gets no answer from any other.
    async fn attempt(address: SocketAddr) -> io::Result<SocketAddr> {
        match address.port() {
            OPEN => Ok(address),
            CLOSED => Err(io::ErrorKind::ConnectionRefused.into()),
            _ => std::future::pending().await,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_dead_address_costs_a_quarter_of_a_second_and_a_closed_one_nothing() {
        for (ports, most) in [([DEAD, OPEN], ATTEMPT_DELAY), ([CLOSED, OPEN], Duration::ZERO)] {
            let started = Instant::now();
            let list = ports.map(|port| SocketAddr::from(([10, 0, 0, 1], port)));
            assert_eq!(first(&list, attempt).await.unwrap().port(), OPEN);
            assert_eq!(started.elapsed(), most);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_address_wins_when_it_answers_before_the_others() {
        let slow = |address: SocketAddr| async move {
            tokio::time::sleep(Duration::from_secs(u64::from(address.port()))).await;
            Ok(address.port())
        };
        assert_eq!(first(&addresses(&["10.0.0.1:1", "10.0.0.2:9"]), slow).await.unwrap(), 1);
        assert_eq!(first(&addresses(&["10.0.0.1:9", "10.0.0.2:1"]), slow).await.unwrap(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn all_failures_and_no_address_are_errors() {
        let closed = addresses(&["10.0.0.1:2", "[::1]:2"]);
        assert_eq!(first(&closed, attempt).await.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        assert_eq!(first(&[], attempt).await.unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[tokio::test(start_paused = true)]
    async fn the_number_of_attempts_is_bounded() {
        let many: Vec<_> = (0..200).map(|n| SocketAddr::from(([10, 0, 0, n], CLOSED))).collect();
        let tried = Mutex::new(0);
        let counted = |address| {
            *tried.lock().unwrap() += 1;
            attempt(address)
        };
        assert!(first(&many, counted).await.is_err());
        assert_eq!(*tried.lock().unwrap(), MAX_ADDRESSES);
    }

    #[test]
    fn the_families_take_turns() {
        let mixed = addresses(&["[fd00::1]:1", "[fd00::2]:1", "[fd00::3]:1", "10.0.0.1:1"]);
        assert_eq!(by_turns(&mixed), addresses(&["[fd00::1]:1", "10.0.0.1:1", "[fd00::2]:1", "[fd00::3]:1"]));
    }
}
