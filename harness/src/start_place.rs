//! Bounds the number of gateways that start at one time on this machine.
//!
//! A start keeps more than a core busy for seconds. A gateway that is slowed down by other starts ends by itself: 2026.9.6 waits 5 s for the lease of
//! its state. The test programs run side by side, therefore the places are locks of files.

use std::fs::{File, TryLockError};
use std::path::Path;

use nix::unistd::Uid;

use super::Failure;
use super::wait::POLL_INTERVAL;

/// A place, free again when this value is dropped or the process ends.
#[derive(Debug)]
pub(crate) struct StartPlace(#[expect(dead_code, reason = "the open file holds the lock")] File);

impl StartPlace {
    /// Waits for a place: one for each two cores.
    ///
    /// # Errors
    /// The file of a place could not be opened or locked.
    pub(crate) async fn take() -> Result<Self, Failure> {
        let places = std::thread::available_parallelism().map_or(1, |cores| (cores.get() / 2).max(1));
        loop {
            if let Some(place) = Self::try_take(&std::env::temp_dir(), places)? {
                return Ok(place);
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    fn try_take(dir: &Path, places: usize) -> Result<Option<Self>, Failure> {
        for number in 0..places {
            let path = dir.join(format!("muster-gateway-start-{}-{number}.lock", Uid::current()));
            let file = File::options().create(true).append(true).open(path)?;
            match file.try_lock() {
                Ok(()) => return Ok(Some(Self(file))),
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(error)) => return Err(error.into()),
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_free_again_when_its_value_is_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let take = || StartPlace::try_take(dir.path(), 2).unwrap();
        let (first, _second) = (take().unwrap(), take().unwrap());
        assert!(take().is_none());
        drop(first);
        assert!(take().is_some());
    }
}
