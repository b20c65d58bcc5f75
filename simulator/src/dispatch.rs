//! The path of a call through the process: queue, fault, scope, lock, latency, execution, reply.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep};

use crate::{
    error::RpcError,
    faults::{Disruption, FaultAction},
    frames::{error_response, ok_response},
    gateway::{Gateway, RequestFrame},
    methods::{self, Caller, FollowUp, LockMode, Method, MethodOutput, chat},
    world::records::Outcome,
    world::{InFlightCall, PendingDelete, World, connections::ConnectionCommand},
};

impl Gateway {
    /// Executes a call and replies, unless the process ends first.
    pub(crate) async fn serve(self: Arc<Self>, request: RequestFrame) {
        let ended = self.process_ended();
        tokio::select! {
            biased;
            () = ended => {}
            () = self.answer(&request) => {}
        }
    }

    async fn answer(self: &Arc<Self>, request: &RequestFrame) {
        let Some((call, caller)) = self.record_call(request) else {
            return;
        };
        let fault = self.world().faults.take_match(&request.method, &request.params, methods::writes(&request.method));
        match fault {
            Some(FaultAction::Delay(delay)) => sleep(delay).await,
            Some(FaultAction::Hang) => std::future::pending().await,
            Some(FaultAction::Before(disruption)) => return self.disrupt(request, Some(call), disruption),
            Some(FaultAction::Refuse(error)) => return self.finish(request, call, Err(error), None),
            Some(FaultAction::Answer(payload)) => {
                return self.finish(request, call, Ok(MethodOutput::new(&payload, FollowUp::None)), None);
            }
            Some(FaultAction::Unsettle(time)) => self.leave_unsettled(time),
            Some(action) => {
                let result = self.execute(request, call, &caller, Some(&action)).await;
                return self.finish(request, call, result, Some(&action));
            }
            None => {}
        }
        let result = self.execute(request, call, &caller, None).await;
        self.finish(request, call, result, None);
    }

    /// Records the call, unless the queue is full or the caller has disconnected.
    fn record_call(&self, request: &RequestFrame) -> Option<(usize, Caller)> {
        let mut world = self.world();
        let client = world.connections.get(request.connection_id)?.client.clone()?;
        if world.in_flight.len() >= world.profile.queue {
            let error = RpcError::unavailable("The server is busy. Please try again in a moment.").retryable();
            world
                .connections
                .send(request.connection_id, ConnectionCommand::Frame(error_response(&request.id, &error)));
            return None;
        }
        let call = world.record_call(&request.method, &request.params);
        let pending = InFlightCall {
            connection_id: request.connection_id,
            request: request.id.clone(),
            method: request.method.clone(),
        };
        world.in_flight.insert(call, pending);
        world.max_in_flight = world.max_in_flight.max(world.in_flight.len());
        Some((call, Caller { connection_id: request.connection_id, client }))
    }

    async fn execute(
        self: &Arc<Self>,
        request: &RequestFrame,
        call: usize,
        caller: &Caller,
        fault: Option<&FaultAction>,
    ) -> Result<MethodOutput, RpcError> {
        let (method, time) = {
            let mut world = self.world();
            world.end_expired_lease();
            let method = methods::admit(&mut world, caller, &request.method, &request.params)?;
            (method, (world.profile.latency)(method.name, world.config.applied.agent_count()))
        };
        match method.lock {
            LockMode::Unlocked => {
                sleep_if_any(time).await;
                self.run(method, request, call, caller)
            }
            LockMode::Config => {
                let guard = self.config_lock.lock().await;
                let written = self.write_config(method, request, call, caller, time).await;
                if let (Some(FaultAction::During(disruption)), Ok(_)) = (fault, &written) {
                    self.disrupt(request, None, *disruption);
                }
                let output = self.finish_config_write(method, written, time).await;
                drop(guard);
                output
            }
        }
    }

    /// Writes the configuration after the first part of the call's time.
    async fn write_config(
        &self,
        method: &Method,
        request: &RequestFrame,
        call: usize,
        caller: &Caller,
        time: Duration,
    ) -> Result<MethodOutput, RpcError> {
        if deletes(method) {
            let agent = methods::text(&request.params, "agentId").to_owned();
            self.world().deleting = Some(PendingDelete { agent, since: Instant::now() });
        }
        sleep_if_any(time_before_write(method, time)).await;
        self.run(method, request, call, caller)
    }

    /// Applies the written configuration after the rest of the call's time.
    async fn finish_config_write(
        self: &Arc<Self>,
        method: &Method,
        written: Result<MethodOutput, RpcError>,
        time: Duration,
    ) -> Result<MethodOutput, RpcError> {
        if written.is_ok() {
            sleep_if_any(time.saturating_sub(time_before_write(method, time))).await;
        }
        let mut world = self.world();
        if deletes(method) {
            world.deleting = None;
        }
        let output = written?;
        match output.follow_up {
            FollowUp::ApplyBeforeReply => world.finish_reload(),
            FollowUp::ApplyAfterReply => self.apply_later(&world),
            FollowUp::None | FollowUp::StartRun(_) | FollowUp::CloseDevice(_) => {}
        }
        Ok(output)
    }

    fn run(
        &self,
        method: &Method,
        request: &RequestFrame,
        call: usize,
        caller: &Caller,
    ) -> Result<MethodOutput, RpcError> {
        let mut world = self.world();
        if !world.in_flight.contains_key(&call) {
            return Err(RpcError::unavailable("the process has ended"));
        }
        world.end_expired_lease();
        world.calls.set_outcome(call, Outcome::Executed);
        method.run(&mut world, caller, &request.params)
    }

    fn apply_later(self: &Arc<Self>, world: &World) {
        let delay = (world.profile.visibility)(world.config.applied.agent_count());
        let (gateway, ended) = (self.clone(), self.process_ended());
        tokio::spawn(async move {
            tokio::select! {
                biased;
                () = ended => {}
                () = sleep_if_any(delay) => gateway.world().finish_reload(),
            }
        });
    }

    /// Replies to the call, as far as the fault allows, and starts the follow-up.
    fn finish(
        self: &Arc<Self>,
        request: &RequestFrame,
        call: usize,
        result: Result<MethodOutput, RpcError>,
        fault: Option<&FaultAction>,
    ) {
        let (frame, outcome, follow_up) = match result {
            Ok(output) => (ok_response(&request.id, &output.payload), Outcome::Ok, output.follow_up),
            Err(error) => {
                let outcome = Outcome::Error { code: error.code.clone(), message: error.message.clone() };
                (error_response(&request.id, &error), outcome, FollowUp::None)
            }
        };
        let mut world = self.world();
        if world.in_flight.remove(&call).is_none() {
            // The process has ended in the meantime.
            return;
        }
        world.calls.set_outcome(call, outcome);
        if fault.is_none() {
            world.calls.set_answered(call);
        }
        self.start_run(&mut world, &follow_up);
        match fault {
            Some(FaultAction::After(disruption)) => {
                drop(world);
                return self.disrupt(request, None, *disruption);
            }
            Some(FaultAction::LoseReply) => {}
            Some(FaultAction::HoldReply(time)) => self.send_later(request.connection_id, frame, *time),
            Some(FaultAction::RepeatReply) => {
                world.connections.send(request.connection_id, ConnectionCommand::Frame(frame.clone()));
                world.connections.send(request.connection_id, ConnectionCommand::Frame(frame));
            }
            _ => world.connections.send(request.connection_id, ConnectionCommand::Frame(frame)),
        }
        count_unauthorized(&mut world, request.connection_id, call);
        if let FollowUp::CloseDevice(device) = &follow_up {
            world.connections.close_device(device, 4001, "device removed");
        }
        let is_write = matches!(follow_up, FollowUp::ApplyBeforeReply | FollowUp::ApplyAfterReply);
        if is_write && world.restarts_after(&request.method) {
            self.restart_later();
        }
    }

    /// Disrupts the connection or the process of a request. A graceful restart answers the calls in flight.
    pub(crate) fn disrupt(self: &Arc<Self>, request: &RequestFrame, call: Option<usize>, disruption: Disruption) {
        let mut world = self.world();
        match disruption {
            Disruption::DropConnection | Disruption::Silence => {
                world.in_flight.retain(|index, _| Some(*index) != call);
                let command = if disruption == Disruption::DropConnection {
                    ConnectionCommand::Abort
                } else {
                    ConnectionCommand::Silence
                };
                world.connections.send(request.connection_id, command);
            }
            Disruption::Kill => {
                drop(world);
                self.kill();
            }
            Disruption::KillUnbootable => {
                world.unbootable = Some(methods::text(&request.params, "agentId").to_owned());
                drop(world);
                self.kill();
            }
            Disruption::Restart => {
                drop(world);
                self.restart();
            }
        }
    }

    fn send_later(self: &Arc<Self>, connection_id: u64, frame: String, time: Duration) {
        let (gateway, ended) = (self.clone(), self.process_ended());
        tokio::spawn(async move {
            tokio::select! {
                biased;
                () = ended => {}
                () = sleep(time) => gateway.world().connections.send(connection_id, ConnectionCommand::Frame(frame)),
            }
        });
    }

    fn start_run(self: &Arc<Self>, world: &mut World, follow_up: &FollowUp) {
        let FollowUp::StartRun(run) = follow_up else { return };
        let (gateway, ended, run) = (self.clone(), self.process_ended(), run.clone());
        let (store_time, run_time) = (world.profile.store_time, world.profile.run_time);
        tokio::spawn(async move {
            let life = async {
                chat::begin(&mut gateway.world(), &run);
                sleep_if_any(store_time).await;
                chat::store(&mut gateway.world(), &run);
                sleep_if_any(run_time.saturating_sub(store_time)).await;
                chat::finish(&mut gateway.world(), &run);
            };
            tokio::select! {
                biased;
                () = ended => {}
                () = life => {}
            }
        });
    }
}

/// Closes a connection after ten calls without the required scope.
fn count_unauthorized(world: &mut World, connection_id: u64, call: usize) {
    let missing =
        |outcome: &Outcome| matches!(outcome, Outcome::Error { message, .. } if message.starts_with("missing scope"));
    if !world.calls.outcome(call).is_some_and(missing) {
        return;
    }
    let Some(client) = world.connections.client_mut(connection_id) else {
        return;
    };
    client.unauthorized += 1;
    if client.unauthorized >= 10 {
        world.connections.send(connection_id, ConnectionCommand::Close(1008, "repeated unauthorized calls".into()));
    }
}

fn deletes(method: &Method) -> bool {
    method.name == "agents.delete"
}

/// The part of a config write's time before the write.
fn time_before_write(method: &Method, time: Duration) -> Duration {
    if deletes(method) { time * 3 / 4 } else { time / 4 }
}

/// Sleeps, unless the time is zero: then the task does not even yield to the runtime.
async fn sleep_if_any(time: Duration) {
    if !time.is_zero() {
        sleep(time).await;
    }
}
