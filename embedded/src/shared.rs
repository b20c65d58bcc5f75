//! What all requests share: the kinds, the stored objects, and the news of writes.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::objects::Objects;
use crate::resource::Resources;

/// The state of the API.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) resources: Resources,
    objects: Mutex<Objects>,
    /// The revision of the last write. Watches wait for it.
    pub(crate) revisions: watch::Sender<u64>,
}

impl Shared {
    pub(crate) fn new(resources: Resources, objects: Objects) -> Self {
        let revisions = watch::Sender::new(objects.revision());
        Self { resources, objects: Mutex::new(objects), revisions }
    }

    /// The stored objects. No task waits while it has them.
    pub(crate) fn objects(&self) -> MutexGuard<'_, Objects> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
