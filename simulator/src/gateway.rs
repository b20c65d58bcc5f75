//! The process: its state, its frames, and its end.

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

/// A running or killed gateway. Its connections and its tests share it.
#[derive(Debug)]
pub(crate) struct Gateway {
    world: Mutex<World>,
    /// Serialises all config writes in the order of their arrival.
    pub(crate) config_lock: tokio::sync::Mutex<()>,
    /// The number of ended processes.
    ended_processes: watch::Sender<u64>,
}

/// A request frame: one call of a client.
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

    /// The state of the gateway. A poisoned lock stays usable, so that one test's panic does not fail the others.
    pub(crate) fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Resolves when the current process has ended.
    pub(crate) fn process_ended(&self) -> impl Future<Output = ()> + use<> {
        let mut ended_processes = self.ended_processes.subscribe();
        async move {
            // An error means that the gateway value was dropped.
            let _ = ended_processes.changed().await;
        }
    }

    /// Kills the process: connections end without a close frame, and pending calls stop.
    pub(crate) fn kill(self: &Arc<Self>) {
        self.world().connections.abort_all();
        self.end_process(World::kill);
    }

    /// Stops the host: connections stay open, and pending calls stop.
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

    /// Stops the process gracefully: pending calls are refused, the event is sent, connections close with 1012.
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

    /// For `time`, the gateway accepts writes and does not apply them.
    pub(crate) fn leave_unsettled(self: &Arc<Self>, time: Duration) {
        let until = Instant::now() + time;
        self.world().config.unsettled_until = Some(until);
        self.settle_at(until);
    }

    /// Ends a lease at its time, whichever process runs then.
    pub(crate) fn settle_at(self: &Arc<Self>, until: Instant) {
        let gateway = self.clone();
        tokio::spawn(async move {
            sleep_until(until).await;
            gateway.world().end_expired_lease();
        });
    }

    /// Restarts after a patch, as old versions do.
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

    /// Restarts in the process.
    pub(crate) fn restart(self: &Arc<Self>) {
        let event = json!({"reason": "gateway restarting", "restartExpectedMs": 1_500});
        let time = self.world().profile.restart_time;
        self.stop(&event, Some(time));
    }

    /// The state of the process.
    pub(crate) fn process_state(&self) -> ProcessState {
        self.world().process_state()
    }
}

/// A response frame with a result.
pub(crate) fn ok_response(id: &str, payload: &Value) -> Value {
    json!({"type": "res", "id": id, "ok": true, "payload": payload})
}

/// A response frame with an error.
pub(crate) fn error_response(id: &str, error: &RpcError) -> Value {
    json!({"type": "res", "id": id, "ok": false, "error": error.to_json()})
}
