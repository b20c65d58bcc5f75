//! The hands of someone else: what happens to a gateway without our calls.

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};

use crate::{
    Fault, FileLink, Profile, Simulator,
    methods::{chat, devices, sessions::open_session},
    world::{ProcessState, TrashState, sessions::Run},
};

/// What others do to the gateway.
impl Simulator {
    /// Writes a file in the workspace of an agent, or removes it: no event tells of it.
    pub fn edit_file(&self, agent: &str, name: &str, content: Option<&str>) {
        self.edit_bytes(agent, name, content.map(str::as_bytes));
    }

    /// The same, with bytes that need not be text.
    pub fn edit_bytes(&self, agent: &str, name: &str, content: Option<&[u8]>) {
        let mut world = self.gateway.world();
        let Some(entry) = world.written_agents().remove(agent) else {
            return;
        };
        let path = world.workspace_of(agent, &entry);
        let now_ms = world.clock.now_ms();
        match content {
            Some(content) => world.workspaces.write(&path, name, content, now_ms),
            None => world.workspaces.remove_file(&path, name),
        }
    }

    /// Turns a file's letters into as many `x`, so that neither its size nor its time tell of it.
    pub fn garble_file(&self, agent: &str, name: &str) {
        let mut world = self.gateway.world();
        let Some(entry) = world.written_agents().remove(agent) else {
            return;
        };
        let path = world.workspace_of(agent, &entry);
        if let Some(file) = world.workspaces.by_path.get_mut(&path).and_then(|w| w.files.get_mut(name)) {
            file.content.fill(b'x');
        }
    }

    /// Removes an agent with all that belongs to it; only `config.changed` tells of it.
    pub fn remove_agent(&self, id: &str) {
        let mut world = self.gateway.world();
        let shape = world.profile.roster;
        if let Some(entry) = world.written_agents().remove(id) {
            let path = world.workspace_of(id, &entry);
            world.workspaces.by_path.remove(&path);
        }
        world.sessions.remove_agent(id);
        world.close_id(id);
        world.write(|document| crate::config::roster::remove(document, shape, id));
        world.finish_reload();
    }

    /// Closes an id, as if an agent of that id had been deleted a while ago.
    pub fn close_id(&self, id: &str) {
        self.gateway.world().close_id(id);
    }

    /// Edits the configuration on the gateway's disk; it is applied at once.
    pub fn edit_config(&self, edit: impl FnOnce(&mut Value)) {
        let mut world = self.gateway.world();
        edit(&mut world.config.document);
        world.apply();
    }

    /// Cuts the configuration on the gateway's disk in half, so that it is no JSON any more. Nothing tells of it; the
    /// gateway works on with what it had applied.
    pub fn break_config(&self) {
        self.gateway.world().config.broken = true;
    }

    /// Puts the configuration back that was broken: only a change of it is told.
    pub fn repair_config(&self) {
        let mut world = self.gateway.world();
        world.config.broken = false;
        world.apply();
    }

    /// Puts a link in the place of a file in the workspace of an agent: the gateway neither reads nor writes it.
    pub fn link_file(&self, agent: &str, name: &str, link: FileLink) {
        let mut world = self.gateway.world();
        let Some(entry) = world.written_agents().remove(agent) else {
            return;
        };
        let path = world.workspace_of(agent, &entry);
        world.workspaces.remove_file(&path, name);
        world.workspaces.by_path.entry(path).or_default().links.insert(name.to_owned(), link);
    }

    /// Puts a plain file in the place of the folder to which deleted files are moved: 2026.9.6 then answers an `agents.delete`
    /// with `failed[]`, older versions say nothing (measured on 2026.3.2), and the files stay on both.
    pub fn block_trash(&self) {
        self.gateway.world().trash = TrashState::Blocked;
    }

    /// Lets the purge of sessions fail: 2026.9.6 then answers an `agents.delete` with `purgeFailed` and does not touch the files.
    pub fn fail_purges(&self) {
        self.gateway.world().trash = TrashState::PurgeFails;
    }

    /// Repairs what [`block_trash`](Self::block_trash) and [`fail_purges`](Self::fail_purges) did.
    pub fn repair_trash(&self) {
        self.gateway.world().trash = TrashState::Works;
    }

    /// Approves a pairing request; whether there was one.
    pub fn approve_pairing(&self, request_id: &str) -> bool {
        devices::approved(&mut self.gateway.world(), request_id).is_some()
    }

    /// The ids of the pairing requests that wait.
    pub fn pairing_requests(&self) -> Vec<String> {
        let mut world = self.gateway.world();
        let now_ms = world.clock.now_ms();
        world.devices.expire(now_ms);
        world.devices.pending.keys().cloned().collect()
    }

    /// Takes a device's token away and closes its connections with 4001.
    pub fn revoke_device(&self, id: &str) -> bool {
        let mut world = self.gateway.world();
        let revoked = world.devices.revoke(id);
        world.connections.close_device(id, 4001, "device removed");
        revoked
    }

    /// Gives a device another token, which its next connection with the shared credential is told, and closes its connections with
    /// 4001.
    pub fn rotate_device(&self, id: &str) -> bool {
        let mut world = self.gateway.world();
        let token = world.ids.uuid();
        let rotated = world.devices.rotate(id, token);
        world.connections.close_device(id, 4001, "device removed");
        rotated
    }

    /// Fails so many logins with a shared credential from the address that remote clients come from that the gateway
    /// refuses it for a while; the tokens of devices are counted apart.
    pub fn exhaust_auth_attempts(&self) {
        self.gateway.world().shared_auth_failures.exhaust();
    }

    /// Changes the shared credential, as after a restart with another one; connections stand.
    pub fn change_token(&self, token: &str) {
        let mut world = self.gateway.world();
        let profile = Profile { token: token.to_owned(), ..Profile::clone(&world.profile) };
        world.profile = Arc::new(profile);
    }

    /// Lets a run of an agent begin in its main session, as after somebody else's message. It goes on until
    /// [`end_run`](Self::end_run).
    pub fn begin_run(&self, agent: &str) {
        let mut world = self.gateway.world();
        let (key, run_id, now_ms) = (format!("agent:{agent}:main"), world.ids.uuid(), world.clock.now_ms());
        let run = Run { session_key: key.clone(), message: "Do this.".into(), ended: false };
        world.sessions.runs.insert(run_id.clone(), run);
        let session = open_session(&mut world, &key);
        session.run = Some(run_id.clone());
        session.started_ms = Some(now_ms);
        session.ended_ms = None;
        chat::begin(&mut world, &run_id);
    }

    /// Lets the run of an agent's main session end.
    pub fn end_run(&self, agent: &str) {
        let mut world = self.gateway.world();
        let run = world.sessions.by_key.get(&format!("agent:{agent}:main")).and_then(|session| session.run.clone());
        if let Some(run) = run {
            chat::finish(&mut world, &run);
        }
    }

    /// Lets an agent's heartbeat run begin: its job starts.
    pub fn begin_heartbeat(&self, agent: &str) {
        let mut world = self.gateway.world();
        let Some(mut job) = world.cron.jobs.get(&format!("heartbeat:{agent}")).cloned() else {
            return;
        };
        let now_ms = world.clock.now_ms();
        job["state"]["runningAtMs"] = json!(now_ms);
        world.cron.jobs.insert(format!("heartbeat:{agent}"), job.clone());
        let payload = json!({"jobId": job["id"], "action": "started", "job": job, "runAtMs": now_ms});
        world.emit("cron", &payload);
    }

    /// Lets an agent's heartbeat run end: its job has finished.
    pub fn end_heartbeat(&self, agent: &str) {
        let mut world = self.gateway.world();
        let Some(mut job) = world.cron.jobs.get(&format!("heartbeat:{agent}")).cloned() else {
            return;
        };
        let now_ms = world.clock.now_ms();
        let began = job["state"]["runningAtMs"].as_i64().unwrap_or(now_ms);
        if let Some(state) = job["state"].as_object_mut() {
            state.remove("runningAtMs");
        }
        job["state"]["lastRunAtMs"] = json!(began);
        job["state"]["lastRunStatus"] = json!("ok");
        world.cron.jobs.insert(format!("heartbeat:{agent}"), job.clone());
        let payload = json!({
            "jobId": job["id"], "action": "finished", "job": job, "runAtMs": began, "status": "ok",
            "durationMs": now_ms - began,
        });
        world.emit("cron", &payload);
    }

    /// Ends every connection with no close frame; the process goes on.
    pub fn drop_connections(&self) {
        let mut world = self.gateway.world();
        world.connections.abort_all();
        world.connections.clear();
    }

    /// Every connection stays open, and nothing comes or goes on it any more; new ones are served.
    pub fn silence_connections(&self) {
        self.gateway.world().connections.silence_all();
    }

    /// Closes every connection with a close frame.
    pub fn close_connections(&self, code: u16, reason: &str) {
        self.gateway.world().connections.close_all(code, reason);
    }

    /// Loses the next events of every connection on the way, which leaves a gap in the sequence.
    pub fn lose_events(&self, count: usize) {
        self.gateway.world().connections.lose_events(count);
    }

    /// Sends an event to every connection that may hear it.
    pub fn send_event(&self, event: &str, payload: &Value) {
        self.gateway.world().emit(event, payload);
    }
}

/// Faults.
impl Simulator {
    /// Lets one thing go wrong with one call to come.
    pub fn inject(&self, fault: Fault) {
        self.gateway.world().faults.inject(fault);
    }

    /// Kills the process with signal 9: connections end with no close frame, pending replies never
    /// come, and connections are refused until [`start`](Self::start). A process that is killed
    /// while a written configuration waits to be applied leaves the gateway unsettled for
    /// [`Profile::lease`](crate::Profile::lease).
    pub fn kill(&self) {
        self.gateway.kill();
    }

    /// Loses the machine that the process runs on: connections stay open, and neither they nor new ones are answered
    /// until [`start`](Self::start).
    pub fn lose_host(&self) {
        self.gateway.lose_host();
    }

    /// Starts the process: for [`Profile::boot_time`](crate::Profile::boot_time) it answers
    /// `gateway starting`. One that was killed [for good](Fault::kill_for_good) exits at once, with 78.
    pub fn start(&self) {
        let mut world = self.gateway.world();
        if world.unbootable.is_some() {
            return;
        }
        if matches!(world.process_state(), ProcessState::Stopped | ProcessState::HostLost | ProcessState::Draining) {
            let time = world.profile.boot_time;
            world.boot(time);
        }
    }

    /// What a person does with a gateway that was killed [for good](Fault::kill_for_good): takes the agent's entry out
    /// of the configuration and its state out of the state directory. The deletion itself is still in the gateway's journal,
    /// with the lease of the killed process: `agents.delete` goes through with it once that has ended.
    pub fn repair_half_deleted(&self, id: &str) {
        let mut world = self.gateway.world();
        let shape = world.profile.roster;
        let workspace = world.written_agents().get(id).map(|entry| world.workspace_of(id, entry)).unwrap_or_default();
        crate::config::roster::remove(&mut world.config.document, shape, id);
        world.sessions.remove_agent(id);
        world.unbootable = None;
        world.delete_lease = Some((id.to_owned(), None));
        world.journalled_delete = Some((id.to_owned(), workspace));
    }

    /// Ends the process in good order and starts another version on the same disk. The roster is brought into the
    /// shape of that version: 2026.9.6 does so by itself when it starts. An older version refuses the newer shape
    /// (2026.7.1 exits with 78), so a way back stands for what a person has to do first.
    pub fn upgrade(&self, profile: Profile) {
        self.stop();
        self.gateway.world().switch_version(Arc::new(profile));
        self.start();
    }

    /// Restarts the process in good order: the shutdown event, close 1012, then `gateway starting`
    /// for a while.
    pub fn restart(&self) {
        self.gateway.restart();
    }

    /// Stops the process in good order, as SIGTERM does.
    pub fn stop(&self) {
        self.gateway.stop(&json!({"reason": "gateway stopping"}), None);
    }

    /// From now on every upgrade is answered with HTTP 503, until [`start`](Self::start);
    /// connections stay.
    pub fn drain(&self) {
        self.gateway.world().drain();
    }

    /// For a while the gateway accepts writes, shows them in `config.get`, and does not work with
    /// them.
    pub fn leave_unsettled(&self, time: Duration) {
        self.gateway.leave_unsettled(time);
    }
}
