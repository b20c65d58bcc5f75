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
    frames::error_response,
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

    use super::*;
    use crate::{config::roster::visits, world::connections::Client};

    /// A gateway with an admitted client.
    fn admitted(profile: Profile) -> (Arc<Gateway>, u64, UnboundedReceiver<ConnectionCommand>) {
        let gateway = Arc::new(Gateway::new(profile.instant().with_patch_budget(usize::MAX, Duration::from_mins(1))));
        let (sender, commands) = unbounded_channel();
        let scopes = ["operator.admin".to_owned()].into();
        let client = Client { scopes, device: None, sessions_subscribed: true, unauthorized: 0 };
        let mut world = gateway.world();
        let connection_id = world.connections.open(sender, false);
        world.connections.admit(connection_id, client);
        drop(world);
        (gateway, connection_id, commands)
    }

    /// The roster entries that the passes of each call visit, on a gateway with `agents` agents beside `main`.
    async fn visits_per_call(agents: usize) -> BTreeMap<&'static str, usize> {
        let (gateway, connection_id, mut commands) = admitted(Profile::v2026_9_6());
        let entries: serde_json::Map<String, Value> =
            (0..agents).map(|agent| (format!("a{agent}"), json!({"workspace": format!("/w/a{agent}")}))).collect();
        let roster = json!({"agents": {"ownership": "explicit", "entries": entries}}).to_string();
        let change = json!({"agents": {"entries": {"a0": {"name": "A"}}}}).to_string();
        let key = "agent:a0:main";
        let mut visited = BTreeMap::new();
        for (method, mut params) in [
            ("config.patch", json!({"raw": roster})),
            ("config.patch", json!({"raw": change})),
            ("config.get", json!({})),
            ("agents.files.list", json!({"agentId": "a0"})),
            ("agents.files.set", json!({"agentId": "a0", "name": "SOUL.md", "content": "x"})),
            ("agents.files.get", json!({"agentId": "a0", "name": "SOUL.md"})),
            ("sessions.patch", json!({"key": key, "label": "A"})),
            ("sessions.list", json!({"agentId": "a0"})),
            ("chat.send", json!({"sessionKey": key, "message": "x", "idempotencyKey": "k"})),
            ("chat.history", json!({"sessionKey": key})),
        ] {
            if method == "config.patch" {
                params["baseHash"] = json!(gateway.world().config.hash(&Profile::v2026_9_6()));
            }
            visits::take();
            let request = RequestFrame { connection_id, id: "1".into(), method: method.into(), params };
            gateway.clone().serve(request).await;
            visited.insert(method, visits::take());
        }
        while let Ok(ConnectionCommand::Frame(frame)) = commands.try_recv() {
            assert!(!frame.contains("\"ok\":false"), "{frame}");
        }
        visited
    }

    #[tokio::test(start_paused = true)]
    async fn a_patch_passes_over_the_roster_a_few_times_and_a_call_for_one_agent_never() {
        let (few, many) = (visits_per_call(9).await, visits_per_call(99).await);
        for (method, visits) in &many {
            let passes = if *method == "config.patch" { visits / 100 } else { 0 };
            assert_eq!((visits, passes < 10), (&(passes * 100), true), "{method}");
            assert_eq!(few[method], passes * 10, "{method}: the number of passes depends on the number of agents");
        }
    }
}
