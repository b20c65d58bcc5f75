//! How a call goes through the process: queue, fault, scope, lock, latency, execution, reply.

use std::{sync::Arc, time::Duration};

use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::{
    error::RpcError,
    faults::{Action, Loss},
    gateway::{Gateway, Request, answered, refused},
    methods::{self, Caller, Done, Lane, Method, Then, chat},
    world::records::{Call, Outcome},
    world::{Deleting, InFlight, World, connections::ConnectionCommand},
};

impl Gateway {
    /// Executes a call and answers it, unless the process ends before.
    pub(crate) async fn serve(self: Arc<Self>, request: Request) {
        let over = self.over();
        tokio::select! {
            biased;
            () = over => {}
            () = self.answer(&request) => {}
        }
    }

    async fn answer(self: &Arc<Self>, request: &Request) {
        let Some((call, caller)) = self.enter(request) else {
            return;
        };
        let strike = self.world().faults.strike(&request.method, &request.params, methods::writes(&request.method));
        match strike {
            Some(Action::Delay(delay)) => sleep(delay).await,
            Some(Action::Hang) => std::future::pending().await,
            Some(Action::Before(loss)) => return self.lose(request, Some(call), loss),
            Some(Action::Refuse(error)) => return self.finish(request, call, Err(error), None),
            Some(Action::Unsettle(time)) => self.leave_unsettled(time),
            Some(action) => {
                let result = self.execute(request, call, &caller, Some(&action)).await;
                return self.finish(request, call, result, Some(&action));
            }
            None => {}
        }
        let result = self.execute(request, call, &caller, None).await;
        self.finish(request, call, result, None);
    }

    /// Records the call, unless the queue is full or the caller is gone.
    fn enter(&self, request: &Request) -> Option<(usize, Caller)> {
        let mut world = self.world();
        let client = world.connections.get(request.connection_id)?.client.clone()?;
        if world.in_flight.len() >= world.profile.queue {
            let error = RpcError::unavailable("The server is busy. Please try again in a moment.").retryable();
            world.connections.send(request.connection_id, ConnectionCommand::Frame(refused(&request.id, &error)));
            return None;
        }
        let call = world.calls.len();
        world.calls.push(Call::new(&request.method, &request.params));
        let pending = InFlight {
            connection_id: request.connection_id,
            request: request.id.clone(),
            method: request.method.clone(),
        };
        world.in_flight.insert(call, pending);
        world.most_in_flight = world.most_in_flight.max(world.in_flight.len());
        Some((call, Caller { connection_id: request.connection_id, client }))
    }

    async fn execute(
        self: &Arc<Self>,
        request: &Request,
        call: usize,
        caller: &Caller,
        fault: Option<&Action>,
    ) -> Result<Done, RpcError> {
        let (method, time) = {
            let mut world = self.world();
            world.settle();
            let method = methods::admit(&mut world, caller, &request.method, &request.params)?;
            (method, (world.profile.latency)(method.name, world.known().len()))
        };
        match method.lane {
            Lane::Free => {
                wait(time).await;
                self.run(method, request, call, caller)
            }
            Lane::Config => {
                let guard = self.config_lock.lock().await;
                let written = self.write_config(method, request, call, caller, time).await;
                if let (Some(Action::During(loss)), Ok(_)) = (fault, &written) {
                    self.lose(request, None, *loss);
                }
                let done = self.applied(method, written, time).await;
                drop(guard);
                done
            }
        }
    }

    /// A write of the configuration: a first part of its time passes before it is written.
    async fn write_config(
        &self,
        method: &Method,
        request: &Request,
        call: usize,
        caller: &Caller,
        time: Duration,
    ) -> Result<Done, RpcError> {
        if deletes(method) {
            let agent = methods::text(&request.params, "agentId").to_owned();
            self.world().deleting = Some(Deleting { agent, since: Instant::now() });
        }
        wait(before(method, time)).await;
        self.run(method, request, call, caller)
    }

    /// What is written is applied, once the rest of the time has passed.
    async fn applied(
        self: &Arc<Self>,
        method: &Method,
        written: Result<Done, RpcError>,
        time: Duration,
    ) -> Result<Done, RpcError> {
        if written.is_ok() {
            wait(time.saturating_sub(before(method, time))).await;
        }
        let mut world = self.world();
        if deletes(method) {
            world.deleting = None;
        }
        let done = written?;
        match done.then {
            Then::Applied => world.reloaded(),
            Then::Applies => self.apply_later(&world),
            Then::Reply | Then::Wake(_) | Then::Unpair(_) => {}
        }
        Ok(done)
    }

    fn run(&self, method: &Method, request: &Request, call: usize, caller: &Caller) -> Result<Done, RpcError> {
        let mut world = self.world();
        if !world.in_flight.contains_key(&call) {
            return Err(RpcError::unavailable("the process has ended"));
        }
        world.settle();
        if let Some(call) = world.calls.get_mut(call) {
            call.outcome = Outcome::Executed;
        }
        method.run(&mut world, caller, &request.params)
    }

    fn apply_later(self: &Arc<Self>, world: &World) {
        let delay = (world.profile.visibility)(world.known().len());
        let (gateway, over) = (self.clone(), self.over());
        tokio::spawn(async move {
            tokio::select! {
                biased;
                () = over => {}
                () = wait(delay) => gateway.world().reloaded(),
            }
        });
    }

    /// Answers the call as the fault, if any, lets it, and starts what follows.
    fn finish(
        self: &Arc<Self>,
        request: &Request,
        call: usize,
        result: Result<Done, RpcError>,
        fault: Option<&Action>,
    ) {
        let (frame, outcome, then) = match result {
            Ok(done) => (answered(&request.id, &done.payload), Outcome::Ok, done.then),
            Err(error) => {
                let outcome = Outcome::Error { code: error.code.clone(), message: error.message.clone() };
                (refused(&request.id, &error), outcome, Then::Reply)
            }
        };
        let mut world = self.world();
        if world.in_flight.remove(&call).is_none() {
            // The process has ended meanwhile.
            return;
        }
        if let Some(recorded) = world.calls.get_mut(call) {
            recorded.outcome = outcome;
            recorded.answered = fault.is_none();
        }
        self.follow(&mut world, &then);
        match fault {
            Some(Action::After(loss)) => {
                drop(world);
                return self.lose(request, None, *loss);
            }
            Some(Action::LoseReply) => {}
            Some(Action::HoldReply(time)) => self.send_later(request.connection_id, frame, *time),
            Some(Action::RepeatReply) => {
                world.connections.send(request.connection_id, ConnectionCommand::Frame(frame.clone()));
                world.connections.send(request.connection_id, ConnectionCommand::Frame(frame));
            }
            _ => world.connections.send(request.connection_id, ConnectionCommand::Frame(frame)),
        }
        count_unauthorized(&mut world, request.connection_id, call);
        if let Then::Unpair(device) = &then {
            world.connections.close_device(device, 4001, "device removed");
        }
        if request.method == "config.patch" && then == Then::Applies {
            self.restart_later();
        }
    }

    /// Loses the connection of a request. A restart in good order answers what is being executed.
    pub(crate) fn lose(self: &Arc<Self>, request: &Request, call: Option<usize>, loss: Loss) {
        let mut world = self.world();
        match loss {
            Loss::Drop | Loss::Silence => {
                world.in_flight.retain(|number, _| Some(*number) != call);
                let out = if loss == Loss::Drop { ConnectionCommand::Abort } else { ConnectionCommand::Silence };
                world.connections.send(request.connection_id, out);
            }
            Loss::Kill => {
                drop(world);
                self.kill();
            }
            Loss::Brick => {
                world.unbootable = Some(methods::text(&request.params, "agentId").to_owned());
                drop(world);
                self.kill();
            }
            Loss::Restart => {
                drop(world);
                self.restart();
            }
        }
    }

    fn send_later(self: &Arc<Self>, connection_id: u64, frame: Value, time: Duration) {
        let (gateway, over) = (self.clone(), self.over());
        tokio::spawn(async move {
            tokio::select! {
                biased;
                () = over => {}
                () = sleep(time) => gateway.world().connections.send(connection_id, ConnectionCommand::Frame(frame)),
            }
        });
    }

    fn follow(self: &Arc<Self>, world: &mut World, then: &Then) {
        let Then::Wake(run) = then else { return };
        let (gateway, over, run) = (self.clone(), self.over(), run.clone());
        let (stored, ended) = (world.profile.store_time, world.profile.run_time);
        tokio::spawn(async move {
            let life = async {
                chat::begin(&mut gateway.world(), &run);
                wait(stored).await;
                chat::store(&mut gateway.world(), &run);
                wait(ended.saturating_sub(stored)).await;
                chat::finish(&mut gateway.world(), &run);
            };
            tokio::select! {
                biased;
                () = over => {}
                () = life => {}
            }
        });
    }
}

/// Ten calls without the scope that they need end a connection.
fn count_unauthorized(world: &mut World, connection_id: u64, call: usize) {
    let missing =
        |call: &Call| matches!(&call.outcome, Outcome::Error { message, .. } if message.starts_with("missing scope"));
    if !world.calls.get(call).is_some_and(missing) {
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

/// The part of a config write's time that passes before it is written.
fn before(method: &Method, time: Duration) -> Duration {
    if deletes(method) { time * 3 / 4 } else { time / 4 }
}

/// Lets time pass; no time is not even a turn of the runtime.
async fn wait(time: Duration) {
    if !time.is_zero() {
        sleep(time).await;
    }
}
