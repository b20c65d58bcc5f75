//! The methods: one table, one file per family. A method is a function on the world and never waits.

pub(crate) mod agents;
pub(crate) mod chat;
pub(crate) mod config;
pub(crate) mod devices;
pub(crate) mod files;
mod latency;
mod method;
pub(crate) mod sessions;
pub(crate) mod system;
pub(crate) mod workspace;

pub(crate) use method::{Caller, FollowUp, MethodOutput, text};

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::{
    error::RpcError,
    profile::Profile,
    schema::{self, Param},
    world::World,
};

/// Whether a call takes the lock that serialises all config writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LockMode {
    Unlocked,
    Config,
}

type Handler = fn(&mut World, &Caller, &Value) -> Result<MethodOutput, RpcError>;

/// One method of the gateway.
pub(crate) struct Method {
    pub(crate) name: &'static str,
    /// The required scope, if any.
    scope: Option<&'static str>,
    pub(crate) lock: LockMode,
    pub(crate) writes: bool,
    /// Whether calls count against the budget of `config.patch`.
    limited: bool,
    schema: &'static [Param],
    handler: Handler,
}

const READ: Option<&str> = Some("operator.read");
const WRITE: Option<&str> = Some("operator.write");
const ADMIN: Option<&str> = Some("operator.admin");
const PAIRING: Option<&str> = Some("operator.pairing");

const fn read(name: &'static str, scope: Option<&'static str>, schema: &'static [Param], handler: Handler) -> Method {
    Method { name, scope, lock: LockMode::Unlocked, writes: false, limited: false, schema, handler }
}

const fn write(name: &'static str, scope: Option<&'static str>, schema: &'static [Param], handler: Handler) -> Method {
    Method { name, scope, lock: LockMode::Unlocked, writes: true, limited: false, schema, handler }
}

const fn config_write(name: &'static str, limited: bool, schema: &'static [Param], handler: Handler) -> Method {
    Method { name, scope: ADMIN, lock: LockMode::Config, writes: true, limited, schema, handler }
}

static METHODS: &[Method] = &[
    read("health", None, &[], system::health),
    read("status", READ, &[], system::status),
    read("last-heartbeat", READ, &[], system::last_heartbeat),
    read("cron.status", READ, &[], system::cron_status),
    read("cron.list", READ, system::CRON_LIST, system::cron_list),
    read("agents.list", READ, &[], agents::list),
    config_write("agents.create", false, agents::CREATE, agents::create),
    config_write("agents.update", false, agents::UPDATE, agents::update),
    config_write("agents.delete", false, agents::DELETE, agents::delete),
    read("agents.files.list", READ, files::LIST, files::list),
    read("agents.files.get", READ, files::GET, files::get),
    write("agents.files.set", ADMIN, files::SET, files::set),
    read("agents.workspace.list", READ, workspace::LIST, workspace::list),
    read("agents.workspace.get", READ, workspace::GET, workspace::get),
    read("config.get", READ, &[], config::get),
    config_write("config.patch", true, config::PATCH, config::patch),
    config_write("config.set", false, config::SET, config::set),
    read("sessions.subscribe", READ, &[], sessions::subscribe),
    read("sessions.unsubscribe", READ, &[], sessions::unsubscribe),
    read("sessions.list", READ, sessions::LIST, sessions::list),
    write("sessions.patch", WRITE, sessions::PATCH, sessions::patch),
    write("sessions.reset", ADMIN, sessions::RESET, sessions::reset),
    write("sessions.delete", ADMIN, sessions::DELETE, sessions::delete),
    write("chat.send", WRITE, chat::SEND, chat::send),
    read("chat.history", READ, chat::HISTORY, chat::history),
    read("device.pair.list", PAIRING, &[], devices::list),
    write("device.pair.approve", PAIRING, devices::REQUEST, devices::approve),
    write("device.pair.reject", PAIRING, devices::REQUEST, devices::reject),
    write("device.pair.remove", PAIRING, devices::DEVICE, devices::remove),
    write("device.token.revoke", PAIRING, devices::TOKEN, devices::revoke),
];

/// Whether calls of `method` write.
pub(crate) fn writes(method: &str) -> bool {
    METHODS.iter().any(|known| known.name == method && known.writes)
}

/// Whether calls of `method` write the configuration.
pub(crate) fn writes_config(method: &str) -> bool {
    METHODS.iter().any(|known| known.name == method && known.lock == LockMode::Config)
}

/// Finds the method of a call and authorises the caller: name, scope, budget, parameters, in this order.
pub(crate) fn admit(
    world: &mut World,
    caller: &Caller,
    name: &str,
    params: &Value,
) -> Result<&'static Method, RpcError> {
    if !world.profile.methods.lines().any(|known| known == name) {
        return Err(RpcError::invalid(format!("unknown method: {name}")));
    }
    let method = METHODS
        .iter()
        .find(|method| method.name == name)
        .ok_or_else(|| RpcError::unavailable(format!("not simulated: {name}")))?;
    authorise(&world.profile, caller, method)?;
    if method.limited {
        spend_budget(world, caller, name)?;
    }
    chat::check_target(world, name, params)?;
    schema::check(name, &method.schema_for(&world.profile), params, world.profile.names_every_missing)?;
    Ok(method)
}

impl Method {
    pub(crate) fn run(&self, world: &mut World, caller: &Caller, params: &Value) -> Result<MethodOutput, RpcError> {
        (self.handler)(world, caller, params)
    }

    fn schema_for(&self, profile: &Profile) -> Vec<Param> {
        let known = |param: &&Param| profile.file_hashes || param.name != "expectedHash";
        let mut schema: Vec<Param> = self.schema.iter().filter(known).copied().collect();
        if self.name == "agents.create" && profile.workspace_required {
            for param in schema.iter_mut().filter(|param| param.name == "workspace") {
                param.required = true;
            }
        }
        schema
    }
}

fn authorise(profile: &Profile, caller: &Caller, method: &Method) -> Result<(), RpcError> {
    let Some(scope) = method.scope.filter(|scope| !caller.client.has_scope(scope)) else {
        return Ok(());
    };
    let message = format!("missing scope: {scope}");
    if !profile.forbidden {
        return Err(RpcError::invalid(message));
    }
    let details = json!({"code": "MISSING_SCOPE", "missingScope": scope, "requiredScopes": [scope]});
    Err(RpcError::new("FORBIDDEN", message).with_details(details))
}

/// A fixed window per device, else per connection. Refused calls count too.
fn spend_budget(world: &mut World, caller: &Caller, name: &str) -> Result<(), RpcError> {
    let key = caller.client.device.clone().unwrap_or_else(|| format!("connection {}", caller.connection_id));
    let (limit, window) = (world.profile.patch_budget, world.profile.patch_window);
    let now = Instant::now();
    let (since, spent) = world.budget.entry(key).or_insert((now, 0));
    if since.elapsed() >= window {
        (*since, *spent) = (now, 0);
    }
    *spent += 1;
    if *spent <= limit {
        return Ok(());
    }
    let wait = window.saturating_sub(since.elapsed());
    let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    Err(RpcError::unavailable(format!("rate limit exceeded for {name}; retry after {seconds}s"))
        .retryable()
        .after(Duration::from_millis(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)))
        .with_details(json!({"method": name, "limit": format!("{limit} per {}s", window.as_secs())})))
}
