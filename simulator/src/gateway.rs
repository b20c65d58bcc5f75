//! The process: what it is doing, how a call goes through it, and how it ends.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use serde_json::{Value, json};
use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until},
};

use crate::{
    error::RpcError,
    profile::Profile,
    world::{ProcessState, World, connections::ConnectionCommand},
};

/// A running (or killed) gateway, shared by its connections and by whoever tests against it.
#[derive(Debug)]
pub(crate) struct Gateway {
    world: Mutex<World>,
    /// Serialises all writes of the configuration, in the order in which they came.
    pub(crate) config_lock: tokio::sync::Mutex<()>,
    /// Counts the processes that have ended.
    ended_processes: watch::Sender<u64>,
}

/// One call as it came in.
#[derive(Clone, Debug)]
pub(crate) struct RequestFrame {
    pub(crate) connection_id: u64,
    pub(crate) id: String,
    pub(crate) method: String,
    pub(crate) params: Value,
}

impl Gateway {
    pub(crate) fn new(profile: Profile) -> Self {
        Self {
            world: Mutex::new(World::new(Arc::new(profile))),
            config_lock: tokio::sync::Mutex::new(()),
            ended_processes: watch::Sender::new(0),
        }
    }

    /// The world; a test that panicked while it held it does not take it away from the others.
    pub(crate) fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Resolves when the process that runs now has ended.
    pub(crate) fn process_ended(&self) -> impl Future<Output = ()> + use<> {
        let mut ended_processes = self.ended_processes.subscribe();
        async move {
            // An error means that the gateway itself is gone.
            let _ = ended_processes.changed().await;
        }
    }

    /// Kills the process: connections end with no close frame and nothing that was pending goes on.
    pub(crate) fn kill(self: &Arc<Self>) {
        self.world().connections.abort_all();
        self.end_process(World::kill);
    }

    /// Loses the machine: connections stay, and nothing that was pending goes on.
    pub(crate) fn lose_host(self: &Arc<Self>) {
        self.world().connections.silence_all();
        self.end_process(World::lose_host);
    }

    fn end_process(self: &Arc<Self>, how: fn(&mut World)) {
        let lease = {
            let mut world = self.world();
            how(&mut world);
            world.config.unsettled_until
        };
        self.ended_processes.send_modify(|count| *count += 1);
        if let Some(until) = lease {
            self.settle_at(until);
        }
    }

    /// Ends the process in good order: pending writes are refused, the event goes out, connections
    /// close with 1012.
    pub(crate) fn stop(self: &Arc<Self>, event: &Value, then_boot: Option<Duration>) {
        {
            let mut world = self.world();
            for pending in std::mem::take(&mut world.in_flight).into_values() {
                let error = RpcError::unavailable(format!("{} unavailable during gateway restart", pending.method))
                    .retryable()
                    .with_details(json!({"reason": "gateway-restarting"}));
                world
                    .connections
                    .send(pending.connection_id, ConnectionCommand::Frame(error_response(&pending.request, &error)));
            }
            world.emit("shutdown", event);
            world.connections.close_all(1012, "service restart");
            world.clear_process();
            if let Some(time) = then_boot {
                world.boot(time);
            }
        }
        self.ended_processes.send_modify(|count| *count += 1);
    }

    /// For a while the gateway accepts writes and does not work with them.
    pub(crate) fn leave_unsettled(self: &Arc<Self>, time: Duration) {
        let until = Instant::now() + time;
        self.world().config.unsettled_until = Some(until);
        self.settle_at(until);
    }

    /// Ends a lease when its time comes, whichever process runs then.
    pub(crate) fn settle_at(self: &Arc<Self>, until: Instant) {
        let gateway = self.clone();
        tokio::spawn(async move {
            sleep_until(until).await;
            gateway.world().end_expired_lease();
        });
    }

    /// The restart with which old versions follow a patch.
    pub(crate) fn restart_later(self: &Arc<Self>) {
        let (gateway, ended) = (self.clone(), self.process_ended());
        tokio::spawn(async move {
            tokio::select! {
                biased;
                () = ended => {}
                () = sleep(Duration::from_secs(2)) => gateway.restart(),
            }
        });
    }

    /// An in-process restart.
    pub(crate) fn restart(self: &Arc<Self>) {
        let event = json!({"reason": "gateway restarting", "restartExpectedMs": 1_500});
        let time = self.world().profile.restart_time;
        self.stop(&event, Some(time));
    }

    /// Whether the process answers.
    pub(crate) fn process_state(&self) -> ProcessState {
        self.world().process_state()
    }
}

/// A reply that says yes.
pub(crate) fn ok_response(id: &str, payload: &Value) -> Value {
    json!({"type": "res", "id": id, "ok": true, "payload": payload})
}

/// A reply that says no.
pub(crate) fn error_response(id: &str, error: &RpcError) -> Value {
    json!({"type": "res", "id": id, "ok": false, "error": error.to_json()})
}
