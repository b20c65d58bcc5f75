//! The places of open connections, shared fairly among the networks that connect.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

/// The bounds of open connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlaceLimits {
    /// The maximum number of connections.
    pub total: usize,
    /// The maximum number of connections of one network.
    pub per_network: usize,
}

/// The places of a server's connections.
///
/// # Guarantees
/// - A new connection gets a place at once, or is refused at once.
/// - A network at its limit loses its oldest idle connection to its new one, so that its flood ends its own connections.
/// - A server without a free place takes one from the network with the most places, and never for a network with as many.
/// - A connection with a request is not idle.
#[derive(Debug)]
pub struct ConnectionPlaces {
    limits: PlaceLimits,
    open: Mutex<TakenPlaces>,
}

/// The taken places by network, the oldest first.
#[derive(Debug, Default)]
struct TakenPlaces {
    last_id: u64,
    total: usize,
    networks: HashMap<IpAddr, BTreeMap<u64, Arc<Occupant>>>,
}

/// The holder of a place.
#[derive(Debug, Default)]
struct Occupant {
    evicted: CancellationToken,
    requests: AtomicUsize,
}

impl TakenPlaces {
    fn count(&self, network: IpAddr) -> usize {
        self.networks.get(&network).map_or(0, BTreeMap::len)
    }

    fn remove(&mut self, network: IpAddr, id: u64) -> Option<Arc<Occupant>> {
        let places = self.networks.get_mut(&network)?;
        let removed = places.remove(&id)?;
        if places.is_empty() {
            self.networks.remove(&network);
        }
        self.total -= 1;
        Some(removed)
    }

    /// Ends the oldest connection of a network that is idle, or that is not if `any` is true. Returns whether there was one.
    fn evict(&mut self, network: IpAddr, any: bool) -> bool {
        let Some(places) = self.networks.get(&network) else { return false };
        let idle = places.iter().find(|(_, occupant)| occupant.requests.load(Ordering::Relaxed) == 0);
        let Some(id) = idle.or_else(|| places.iter().next().filter(|_| any)).map(|(id, _)| *id) else { return false };
        self.remove(network, id).inspect(|occupant| occupant.evicted.cancel()).is_some()
    }

    /// The network with the most places.
    fn greediest(&self) -> Option<(IpAddr, usize)> {
        self.networks.iter().map(|(network, places)| (*network, places.len())).max_by_key(|(_, places)| *places)
    }
}

impl ConnectionPlaces {
    /// Places that are all free.
    #[must_use]
    pub fn new(limits: PlaceLimits) -> Arc<Self> {
        Arc::new(Self { limits, open: Mutex::default() })
    }

    fn lock(&self) -> MutexGuard<'_, TakenPlaces> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for a connection from a network; `None` if the connection is refused. A `shared` network stands for many clients, and
    /// only the total bounds its places.
    pub fn take(self: &Arc<Self>, network: IpAddr, shared: bool) -> Option<ConnectionPlace> {
        let mut open = self.lock();
        let own = open.count(network);
        if !shared && own >= self.limits.per_network {
            if !open.evict(network, false) {
                return None;
            }
        } else if open.total >= self.limits.total {
            let (greediest, most) = open.greediest()?;
            if most <= own || !open.evict(greediest, true) {
                return None;
            }
        }
        open.last_id += 1;
        open.total += 1;
        let (id, occupant) = (open.last_id, Arc::new(Occupant::default()));
        open.networks.entry(network).or_default().insert(id, Arc::clone(&occupant));
        Some(ConnectionPlace { places: Arc::clone(self), network, id, occupant })
    }
}

/// The place of one connection. A dropped place is free.
#[derive(Debug)]
pub struct ConnectionPlace {
    places: Arc<ConnectionPlaces>,
    network: IpAddr,
    id: u64,
    occupant: Arc<Occupant>,
}

impl ConnectionPlace {
    /// Is cancelled when the connection loses its place.
    #[must_use]
    pub fn evicted(&self) -> &CancellationToken {
        &self.occupant.evicted
    }

    /// Marks the connection as busy until the value is dropped.
    #[must_use]
    pub fn busy(&self) -> OpenRequest {
        self.occupant.requests.fetch_add(1, Ordering::Relaxed);
        OpenRequest(Arc::clone(&self.occupant))
    }
}

impl Drop for ConnectionPlace {
    fn drop(&mut self) {
        self.places.lock().remove(self.network, self.id);
    }
}

/// A request on a connection, to the end of its answer.
#[derive(Debug)]
pub struct OpenRequest(Arc<Occupant>);

impl Drop for OpenRequest {
    fn drop(&mut self) {
        self.0.requests.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));
    const B: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2));
    const C: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 3));

    fn places(total: usize, per_network: usize) -> Arc<ConnectionPlaces> {
        ConnectionPlaces::new(PlaceLimits { total, per_network })
    }

    fn held(places: &[ConnectionPlace]) -> Vec<bool> {
        places.iter().map(|place| !place.evicted().is_cancelled()).collect()
    }

    #[test]
    fn a_flood_from_one_network_ends_only_its_own_oldest_idle_connections() {
        let all = places(100, 2);
        let other = all.take(B, false).unwrap();
        let mut flood: Vec<_> = (0..2).map(|_| all.take(A, false).unwrap()).collect();
        let busy = flood[0].busy();
        flood.push(all.take(A, false).unwrap());
        assert_eq!(held(&flood), [true, false, true], "a connection with a request stays");
        let second = flood[2].busy();
        assert!(all.take(A, false).is_none(), "all connections of the network have requests");
        drop((busy, second));
        flood.push(all.take(A, false).unwrap());
        assert_eq!(held(&flood), [false, false, true, true]);
        assert!(!other.evicted().is_cancelled());
        assert_eq!(all.lock().total, 3);
    }

    #[test]
    fn a_full_server_takes_a_place_from_the_network_with_the_most_places() {
        let all = places(4, 4);
        let flood: Vec<_> = (0..3).map(|_| all.take(A, false).unwrap()).collect();
        let busy: Vec<_> = flood.iter().map(ConnectionPlace::busy).collect();
        let mut others = vec![all.take(B, false).unwrap(), all.take(C, false).unwrap()];
        assert_eq!(held(&flood), [false, true, true], "also from a network whose connections all have requests");
        assert_eq!(held(&others), [true, true]);
        others.push(all.take(C, false).unwrap_or_else(|| panic!("C has fewer places than A")));
        assert_eq!(held(&flood), [false, false, true]);
        assert!(all.take(C, false).is_none(), "no network has more places than C");
        drop(busy);
    }

    #[test]
    fn only_the_total_bounds_a_shared_network() {
        let all = places(3, 1);
        let shared: Vec<_> = (0..3).filter_map(|_| all.take(A, true)).collect();
        assert_eq!(held(&shared), [true, true, true]);
        assert!(all.take(A, true).is_none());
        assert!(all.take(B, false).is_some());
    }

    #[test]
    fn a_dropped_place_is_free() {
        let all = places(1, 1);
        for network in [A, B, A] {
            drop(all.take(network, false).unwrap());
        }
        let open = all.lock();
        assert_eq!((open.total, open.networks.len()), (0, 0));
    }
}
