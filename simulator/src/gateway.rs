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
    faults::Action,
    inspect::{Call, Outcome},
    methods::{self, Caller, Done, Lane, Method, Then, chat},
    profile::Profile,
    world::{Deleting, InFlight, Power, World, links::Out},
};

/// A running (or killed) gateway, shared by its connections and by whoever tests against it.
#[derive(Debug)]
pub(crate) struct Gateway {
    pub(crate) profile: Arc<Profile>,
    world: Mutex<World>,
    /// Serialises all writes of the configuration, in the order in which they came.
    config_lock: tokio::sync::Mutex<()>,
    /// Counts the processes that have ended.
    boots: watch::Sender<u64>,
}

/// One call as it came in.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) link: u64,
    pub(crate) id: String,
    pub(crate) method: String,
    pub(crate) params: Value,
}

impl Gateway {
    pub(crate) fn new(profile: Profile) -> Self {
        let profile = Arc::new(profile);
        Self {
            world: Mutex::new(World::new(profile.clone())),
            profile,
            config_lock: tokio::sync::Mutex::new(()),
            boots: watch::Sender::new(0),
        }
    }

    /// The world; a test that panicked while it held it does not take it away from the others.
    pub(crate) fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Resolves when the process that runs now has ended.
    pub(crate) fn over(&self) -> impl Future<Output = ()> + use<> {
        let mut boots = self.boots.subscribe();
        async move {
            // An error means that the gateway itself is gone.
            let _ = boots.changed().await;
        }
    }

    /// Kills the process: connections end with no close frame and nothing that was pending goes on.
    pub(crate) fn kill(self: &Arc<Self>) {
        let lease = {
            let mut world = self.world();
            world.links.abort_all();
            world.kill();
            world.config.unsettled_until
        };
        self.boots.send_modify(|boots| *boots += 1);
        if let Some(until) = lease {
            self.settle_at(until);
        }
    }

    /// Ends the process in good order: pending writes are refused, the event goes out, connections close with 1012.
    pub(crate) fn stop(self: &Arc<Self>, event: &Value, then_boot: Option<Duration>) {
        {
            let mut world = self.world();
            for pending in std::mem::take(&mut world.in_flight).into_values() {
                let error = RpcError::unavailable(format!(
                    "{} unavailable during gateway restart",
                    pending.method
                ))
                .retryable()
                .with_details(json!({"reason": "gateway-restarting"}));
                world
                    .links
                    .send(pending.link, Out::Frame(refused(&pending.request, &error)));
            }
            world.emit("shutdown", event);
            world.links.close_all(1012, "service restart");
            world.halt();
            if let Some(time) = then_boot {
                world.boot(time);
            }
        }
        self.boots.send_modify(|boots| *boots += 1);
    }

    /// Ends a lease when its time comes, whichever process runs then.
    pub(crate) fn settle_at(self: &Arc<Self>, until: Instant) {
        let gateway = self.clone();
        tokio::spawn(async move {
            sleep_until(until).await;
            gateway.world().settle();
        });
    }

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
        let strike = self.world().faults.strike(
            &request.method,
            &request.params,
            methods::writes(&request.method),
        );
        let mut after = None;
        match strike {
            Some(Action::Delay(delay)) => sleep(delay).await,
            Some(Action::Hang) => std::future::pending().await,
            Some(Action::DropBefore) => return self.abandon(request, call),
            Some(Action::KillBefore) => return self.kill(),
            Some(Action::Refuse(error)) => return self.finish(request, call, Err(error), None),
            Some(action) => after = Some(action),
            None => {}
        }
        let result = self.execute(request, call, &caller).await;
        self.finish(request, call, result, after);
    }

    /// Records the call, unless the queue is full or the caller is gone.
    fn enter(&self, request: &Request) -> Option<(usize, Caller)> {
        let mut world = self.world();
        let client = world.links.get(request.link)?.client.clone()?;
        if world.in_flight.len() >= world.profile.queue {
            let error = RpcError::unavailable("The server is busy. Please try again in a moment.")
                .retryable();
            world
                .links
                .send(request.link, Out::Frame(refused(&request.id, &error)));
            return None;
        }
        let call = world.calls.len();
        world
            .calls
            .push(Call::new(&request.method, &request.params));
        let pending = InFlight {
            link: request.link,
            request: request.id.clone(),
            method: request.method.clone(),
        };
        world.in_flight.insert(call, pending);
        Some((
            call,
            Caller {
                link: request.link,
                client,
            },
        ))
    }

    async fn execute(
        self: &Arc<Self>,
        request: &Request,
        call: usize,
        caller: &Caller,
    ) -> Result<Done, RpcError> {
        let (method, time) = {
            let mut world = self.world();
            world.settle();
            let method = methods::admit(&mut world, caller, &request.method, &request.params)?;
            (
                method,
                (world.profile.latency)(method.name, world.known().len()),
            )
        };
        match method.lane {
            Lane::Free => {
                wait(time).await;
                self.run(method, request, call, caller)
            }
            Lane::Config => {
                self.execute_alone(method, request, call, caller, time)
                    .await
            }
        }
    }

    /// A write of the configuration: a first part of its time passes before it is written, the rest after.
    async fn execute_alone(
        self: &Arc<Self>,
        method: &'static Method,
        request: &Request,
        call: usize,
        caller: &Caller,
        time: Duration,
    ) -> Result<Done, RpcError> {
        let _guard = self.config_lock.lock().await;
        let deletes = method.name == "agents.delete";
        let before = if deletes { time * 3 / 4 } else { time / 4 };
        if deletes {
            let agent = methods::text(&request.params, "agentId").to_owned();
            self.world().deleting = Some(Deleting {
                agent,
                since: Instant::now(),
            });
        }
        wait(before).await;
        let result = self.run(method, request, call, caller);
        if result.is_ok() {
            wait(time - before).await;
        }
        let mut world = self.world();
        if deletes {
            world.deleting = None;
        }
        let done = result?;
        match done.then {
            Then::Applied => world.reloaded(),
            Then::Applies => self.apply_later(&world),
            Then::Reply | Then::Wake(_) | Then::Unpair(_) => {}
        }
        Ok(done)
    }

    fn run(
        &self,
        method: &Method,
        request: &Request,
        call: usize,
        caller: &Caller,
    ) -> Result<Done, RpcError> {
        let mut world = self.world();
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
        fault: Option<Action>,
    ) {
        let (frame, outcome, then) = match result {
            Ok(done) => (answered(&request.id, &done.payload), Outcome::Ok, done.then),
            Err(error) => {
                let outcome = Outcome::Error {
                    code: error.code.clone(),
                    message: error.message.clone(),
                };
                (refused(&request.id, &error), outcome, Then::Reply)
            }
        };
        let mut world = self.world();
        world.in_flight.remove(&call);
        if let Some(recorded) = world.calls.get_mut(call) {
            recorded.outcome = outcome;
            recorded.answered = fault.is_none();
        }
        self.follow(&mut world, &then);
        match fault {
            Some(Action::KillAfter) => {
                drop(world);
                return self.kill();
            }
            Some(Action::DropAfter) => world.links.send(request.link, Out::Abort),
            Some(Action::LoseReply) => {}
            _ => world.links.send(request.link, Out::Frame(frame)),
        }
        count_unauthorized(&mut world, request.link, call);
        if let Then::Unpair(device) = &then {
            world.links.close_device(device, 4001, "device removed");
        }
        if request.method == "config.patch" && then == Then::Applies {
            self.restart_later();
        }
    }

    fn abandon(&self, request: &Request, call: usize) {
        let mut world = self.world();
        world.in_flight.remove(&call);
        world.links.send(request.link, Out::Abort);
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

    /// The restart with which old versions follow a patch.
    fn restart_later(self: &Arc<Self>) {
        let (gateway, over) = (self.clone(), self.over());
        tokio::spawn(async move {
            tokio::select! {
                biased;
                () = over => {}
                () = sleep(Duration::from_secs(2)) => gateway.restart(),
            }
        });
    }

    /// An in-process restart.
    pub(crate) fn restart(self: &Arc<Self>) {
        let event = json!({"reason": "gateway restarting", "restartExpectedMs": 1_500});
        self.stop(&event, Some(self.profile.restart_time));
    }

    /// Whether the process answers.
    pub(crate) fn power(&self) -> Power {
        self.world().power()
    }
}

/// Ten calls without the scope that they need end a connection.
fn count_unauthorized(world: &mut World, link: u64, call: usize) {
    let missing = |call: &Call| matches!(&call.outcome, Outcome::Error { message, .. } if message.starts_with("missing scope"));
    if !world.calls.get(call).is_some_and(missing) {
        return;
    }
    let Some(client) = world.links.client_mut(link) else {
        return;
    };
    client.unauthorized += 1;
    if client.unauthorized >= 10 {
        world
            .links
            .send(link, Out::Close(1008, "repeated unauthorized calls".into()));
    }
}

/// A reply that says yes.
pub(crate) fn answered(id: &str, payload: &Value) -> Value {
    json!({"type": "res", "id": id, "ok": true, "payload": payload})
}

/// A reply that says no.
pub(crate) fn refused(id: &str, error: &RpcError) -> Value {
    json!({"type": "res", "id": id, "ok": false, "error": error.to_json()})
}

/// Lets time pass; no time is not even a turn of the runtime.
async fn wait(time: Duration) {
    if !time.is_zero() {
        sleep(time).await;
    }
}
