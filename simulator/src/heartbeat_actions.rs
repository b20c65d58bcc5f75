//! The heartbeats that the scheduler of a gateway runs.

use serde_json::{Value, json};

use crate::Simulator;

impl Simulator {
    /// Starts an agent's heartbeat run: the cron job starts.
    pub fn begin_heartbeat(&self, agent: &str) {
        let mut world = self.gateway.world();
        let now_ms = world.clock.now_ms();
        let Some(job) = world.cron.heartbeat_mut(agent) else {
            return;
        };
        job["state"]["runningAtMs"] = json!(now_ms);
        if let Some(state) = job["state"].as_object_mut() {
            state.remove("lastError");
        }
        let payload = json!({"jobId": job["id"], "action": "started", "job": job, "runAtMs": now_ms});
        world.emit("cron", &payload);
    }

    /// Ends an agent's heartbeat run: the cron job finishes.
    pub fn end_heartbeat(&self, agent: &str) {
        self.finish_heartbeat(agent, "ok", &json!({"consecutiveSkipped": 0, "consecutiveErrors": 0}));
    }

    /// Skips an agent's heartbeat for this reason.
    pub fn skip_heartbeat(&self, agent: &str, reason: &str) {
        let skipped = self.heartbeat_state(agent, "consecutiveSkipped") + 1;
        let state = json!({"lastError": format!("heartbeat skipped: {reason}"), "consecutiveSkipped": skipped});
        self.finish_heartbeat(agent, "skipped", &state);
    }

    /// Lets an agent's heartbeat run into its time limit, as a model does that answers 429.
    pub fn time_out_heartbeat(&self, agent: &str) {
        let errors = self.heartbeat_state(agent, "consecutiveErrors") + 1;
        self.finish_heartbeat(agent, "error", &json!({"lastErrorReason": "timeout", "consecutiveErrors": errors}));
    }

    fn heartbeat_state(&self, agent: &str, key: &str) -> i64 {
        let mut world = self.gateway.world();
        world.cron.heartbeat_mut(agent).and_then(|job| job["state"][key].as_i64()).unwrap_or_default()
    }

    /// Ends an agent's heartbeat with this status. `more` are further keys of the job's state.
    fn finish_heartbeat(&self, agent: &str, status: &str, more: &Value) {
        let mut world = self.gateway.world();
        let now_ms = world.clock.now_ms();
        let Some(job) = world.cron.heartbeat_mut(agent) else {
            return;
        };
        let began = job["state"]["runningAtMs"].as_i64().unwrap_or(now_ms);
        let state = &mut job["state"];
        if let Some(state) = state.as_object_mut() {
            for key in ["runningAtMs", "lastError", "lastErrorReason"] {
                state.remove(key);
            }
            state.extend(more.as_object().into_iter().flatten().map(|(key, value)| (key.clone(), value.clone())));
        }
        state["lastRunAtMs"] = json!(began);
        state["lastRunStatus"] = json!(status);
        let payload = json!({
            "jobId": job["id"], "action": "finished", "job": job, "runAtMs": began, "status": status,
            "durationMs": now_ms - began,
        });
        world.emit("cron", &payload);
    }
}
