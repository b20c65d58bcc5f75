//! Actions of people and other clients on a gateway, and faults.

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};

use crate::{
    ConfigLayout, Fault, FileLink, Profile, Simulator,
    methods::{chat, devices, sessions::open_session},
    world::{ProcessState, TrashState, sessions::Run},
};

/// Actions of people and other clients.
impl Simulator {
    /// Writes or removes a file in the workspace of an agent. The gateway sends no event.
    pub fn edit_file(&self, agent: &str, name: &str, content: Option<&str>) {
        self.edit_bytes(agent, name, content.map(str::as_bytes));
    }

    /// As [`edit_file`](Self::edit_file), with bytes that need not be UTF-8.
    pub fn edit_bytes(&self, agent: &str, name: &str, content: Option<&[u8]>) {
        let mut world = self.gateway.world();
        let Some(path) = world.written_workspace(agent) else {
            return;
        };
        let now_ms = world.clock.now_ms();
        match content {
            Some(content) => world.workspaces.write(&path, name, content, now_ms),
            None => world.workspaces.remove_file(&path, name),
        }
    }

    /// Overwrites a file's bytes with `x`; its size and its time do not change.
    pub fn garble_file(&self, agent: &str, name: &str) {
        let mut world = self.gateway.world();
        let Some(path) = world.written_workspace(agent) else {
            return;
        };
        if let Some(file) = world.workspaces.by_path.get_mut(&path).and_then(|w| w.files.get_mut(name)) {
            file.content.fill(b'x');
        }
    }

    /// Removes an agent with its workspace and its sessions. The only event is `config.changed`.
    pub fn remove_agent(&self, id: &str) {
        let mut world = self.gateway.world();
        let shape = world.profile.roster;
        if let Some(path) = world.written_workspace(id) {
            world.workspaces.by_path.remove(&path);
        }
        world.sessions.remove_agent(id);
        world.close_id(id);
        world.write(|document| crate::config::roster::remove(document, shape, id));
        world.finish_reload();
    }

    /// Closes an id, as after an earlier deletion of an agent with this id.
    pub fn close_id(&self, id: &str) {
        self.gateway.world().close_id(id);
    }

    /// Edits the configuration on the gateway's disk. The gateway applies the edit at once.
    pub fn edit_config(&self, edit: impl FnOnce(&mut Value)) {
        let mut world = self.gateway.world();
        let mut value = world.config.document.value.clone();
        edit(&mut value);
        world.set_document(value);
        world.apply();
    }

    /// Replaces the configuration on the gateway's disk. The gateway applies it at once, and has `main` only with an entry, or without
    /// another agent.
    pub fn write_config(&self, config: Value) {
        self.gateway.world().is_by_hand = true;
        self.edit_config(|written| *written = config);
    }

    /// Spreads the configuration over files, or puts it into one file again.
    pub fn lay_out_config(&self, layout: ConfigLayout) {
        self.gateway.world().config.layout = layout;
    }

    /// Truncates the configuration on the gateway's disk, so that the file is not valid JSON. The gateway sends no
    /// event and keeps the applied configuration.
    pub fn break_config(&self) {
        self.gateway.world().config.broken = true;
    }

    /// Restores the broken configuration. The gateway sends an event only if the configuration changed.
    pub fn repair_config(&self) {
        let mut world = self.gateway.world();
        world.config.broken = false;
        world.apply();
    }

    /// Replaces a file in the workspace of an agent with a link. The gateway neither reads nor writes a link.
    pub fn link_file(&self, agent: &str, name: &str, link: FileLink) {
        let mut world = self.gateway.world();
        let Some(path) = world.written_workspace(agent) else {
            return;
        };
        world.workspaces.remove_file(&path, name);
        world.workspaces.by_path.entry(path).or_default().links.insert(name.to_owned(), link);
    }

    /// Puts a plain file in the place of the trash directory. Then 2026.9.6 answers `agents.delete` with `failed[]`,
    /// older versions report nothing (measured on 2026.3.2), and the files stay on both.
    pub fn block_trash(&self) {
        self.gateway.world().trash = TrashState::Blocked;
    }

    /// Makes the purge of sessions fail. Then 2026.9.6 answers `agents.delete` with `purgeFailed` and keeps the files.
    pub fn fail_purges(&self) {
        self.gateway.world().trash = TrashState::PurgeFails;
    }

    /// Reverts [`block_trash`](Self::block_trash) and [`fail_purges`](Self::fail_purges).
    pub fn repair_trash(&self) {
        self.gateway.world().trash = TrashState::Works;
    }

    /// Approves a pairing request; returns whether the request existed.
    pub fn approve_pairing(&self, request_id: &str) -> bool {
        devices::approved(&mut self.gateway.world(), request_id).is_some()
    }

    /// The ids of the pending pairing requests.
    pub fn pairing_requests(&self) -> Vec<String> {
        let mut world = self.gateway.world();
        let now_ms = world.clock.now_ms();
        world.devices.expire(now_ms);
        world.devices.pending.keys().cloned().collect()
    }

    /// Revokes a device's token and closes the device's connections with 4001.
    pub fn revoke_device(&self, id: &str) -> bool {
        let mut world = self.gateway.world();
        let revoked = world.devices.revoke(id);
        world.connections.close_device(id, 4001, "device removed");
        revoked
    }

    /// Replaces a device's token and closes the device's connections with 4001. The next connection with the shared
    /// credential gets the new token.
    pub fn rotate_device(&self, id: &str) -> bool {
        let mut world = self.gateway.world();
        let token = world.ids.uuid();
        let rotated = world.devices.rotate(id, token);
        world.connections.close_device(id, 4001, "device removed");
        rotated
    }

    /// Fails enough logins with the shared credential from the remote address to lock the address out. Failures of
    /// device tokens are counted separately.
    pub fn exhaust_auth_attempts(&self) {
        self.gateway.world().shared_auth_failures.exhaust();
    }

    /// Changes the shared credential, as after a restart with another credential. Connections stay open.
    pub fn change_token(&self, token: &str) {
        let mut world = self.gateway.world();
        let profile = Profile { token: token.to_owned(), ..Profile::clone(&world.profile) };
        world.profile = Arc::new(profile);
    }

    /// Starts a run in an agent's main session, as after a message of another client. The run lasts until
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

    /// Ends the run in an agent's main session.
    pub fn end_run(&self, agent: &str) {
        let mut world = self.gateway.world();
        let run = world.sessions.by_key.get(&format!("agent:{agent}:main")).and_then(|session| session.run.clone());
        if let Some(run) = run {
            chat::finish(&mut world, &run);
        }
    }

    /// Ends every connection without a close frame. The process keeps running.
    pub fn drop_connections(&self) {
        let mut world = self.gateway.world();
        world.connections.abort_all();
        world.connections.clear();
    }

    /// Silences every connection: the stream stays open and carries nothing. New connections are served.
    pub fn silence_connections(&self) {
        self.gateway.world().connections.silence_all();
    }

    /// Closes every connection with a close frame.
    pub fn close_connections(&self, code: u16, reason: &str) {
        self.gateway.world().connections.close_all(code, reason);
    }

    /// Drops the next `count` events of every connection, which leaves a gap in the sequence.
    pub fn lose_events(&self, count: usize) {
        self.gateway.world().connections.lose_events(count);
    }

    /// Sends a text to every client, as it is and so many times.
    pub fn send_text(&self, text: &str, times: usize) {
        let world = self.gateway.world();
        (0..times).for_each(|_| world.connections.send_to_all(text));
    }

    /// Sends an event to every connection with the required scope.
    pub fn send_event(&self, event: &str, payload: &Value) {
        self.gateway.world().emit(event, payload);
    }
}

/// Fault injection.
impl Simulator {
    /// Injects a fault into a later call.
    pub fn inject(&self, fault: Fault) {
        self.gateway.world().faults.inject(fault);
    }

    /// Kills the process with SIGKILL: connections end without a close frame, pending calls get no reply, and
    /// connections are refused until [`start`](Self::start).
    ///
    /// A process that is killed before it has applied a written configuration leaves the gateway unsettled for
    /// [`Profile::lease`](crate::Profile::lease).
    pub fn kill(&self) {
        self.gateway.kill();
    }

    /// Stops the host of the process: connections stay open, and the gateway answers neither them nor new ones until
    /// [`start`](Self::start).
    pub fn lose_host(&self) {
        self.gateway.lose_host();
    }

    /// Starts the process, which answers `gateway starting` for [`Profile::boot_time`](crate::Profile::boot_time). A
    /// process that was killed [for good](Fault::kill_for_good) exits at once with status 78.
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

    /// Repairs a gateway that was killed [for good](Fault::kill_for_good), as a person does: removes the agent's entry
    /// from the configuration and its state from the state directory.
    ///
    /// The gateway's journal still has the deletion, with the lease of the killed process. `agents.delete` completes
    /// the deletion once the lease has ended.
    pub fn repair_half_deleted(&self, id: &str) {
        let mut world = self.gateway.world();
        let shape = world.profile.roster;
        let workspace = world.written_workspace(id).unwrap_or_default();
        let mut value = world.config.document.value.clone();
        crate::config::roster::remove(&mut value, shape, id);
        world.set_document(value);
        world.sessions.remove_agent(id);
        world.unbootable = None;
        world.delete_lease = Some((id.to_owned(), None));
        world.journalled_delete = Some((id.to_owned(), workspace));
    }

    /// Stops the process gracefully and starts another version on the same disk.
    ///
    /// The roster is converted to that version's shape: 2026.9.6 converts it at its start. An older version refuses the
    /// newer shape (2026.7.1 exits with status 78), so a downgrade includes the manual conversion.
    pub fn upgrade(&self, profile: Profile) {
        self.stop();
        self.gateway.world().switch_version(Arc::new(profile));
        self.start();
    }

    /// Restarts the process gracefully: the shutdown event, close code 1012, then `gateway starting` for
    /// [`Profile::restart_time`](crate::Profile::restart_time).
    pub fn restart(&self) {
        self.gateway.restart();
    }

    /// Stops the process gracefully, as SIGTERM does.
    pub fn stop(&self) {
        self.gateway.stop(&json!({"reason": "gateway stopping"}), None);
    }

    /// Answers every upgrade with HTTP 503 until [`start`](Self::start). Connections stay open.
    pub fn drain(&self) {
        self.gateway.world().drain();
    }

    /// For `time`, the gateway accepts writes, shows them in `config.get`, and does not apply them.
    pub fn leave_unsettled(&self, time: Duration) {
        self.gateway.leave_unsettled(time);
    }
}
