//! The limits of open streams.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// The maximum number of open streams of one user.
const MAX_PER_USER: usize = 16;
/// The maximum number of open streams.
const MAX_STREAMS: usize = 256;

/// The numbers of open streams by user.
#[derive(Clone, Debug, Default)]
pub(crate) struct OpenStreams(Arc<Mutex<HashMap<String, usize>>>);

/// The permit of one stream. A dropped permit is released.
pub(crate) struct StreamPermit {
    streams: OpenStreams,
    user: String,
}

impl OpenStreams {
    /// A permit for a further stream of a user; `None` if a limit is reached.
    pub(crate) fn try_acquire(&self, user: &str) -> Option<StreamPermit> {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of_user = open.get(user).copied().unwrap_or_default();
        if of_user >= MAX_PER_USER || open.values().sum::<usize>() >= MAX_STREAMS {
            return None;
        }
        open.insert(user.to_owned(), of_user + 1);
        Some(StreamPermit { streams: self.clone(), user: user.to_owned() })
    }
}

impl Drop for StreamPermit {
    fn drop(&mut self) {
        let mut open = self.streams.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(of_user) = open.get_mut(&self.user) {
            *of_user -= 1;
            if *of_user == 0 {
                open.remove(&self.user);
            }
        }
    }
}
