//! `device.pair.list`, `device.pair.approve`, `device.pair.reject`, `device.pair.remove`, `device.token.revoke`.

use serde_json::{Value, json};

use super::method::{Caller, FollowUp, MethodOutput, reply, text};
use crate::{
    error::RpcError,
    schema::{Param, ParamType, required},
    world::{World, devices},
};

pub(crate) const REQUEST: &[Param] = &[required("requestId", ParamType::NonEmpty)];
pub(crate) const DEVICE: &[Param] = &[required("deviceId", ParamType::NonEmpty)];
pub(crate) const TOKEN: &[Param] = &[required("deviceId", ParamType::NonEmpty), required("role", ParamType::NonEmpty)];

/// Lists pending requests and approved devices.
pub(crate) fn list(world: &mut World, _: &Caller, _: &Value) -> Result<MethodOutput, RpcError> {
    let now_ms = world.clock.now_ms();
    world.devices.expire(now_ms);
    let pending: Vec<Value> = world.devices.pending.values().map(devices::PairingRequest::to_json).collect();
    let paired: Vec<Value> = world.devices.paired.values().map(devices::PairedDevice::to_json).collect();
    reply(json!({"pending": pending, "paired": paired}))
}

/// Approves a request.
pub(crate) fn approve(world: &mut World, _: &Caller, params: &Value) -> Result<MethodOutput, RpcError> {
    let request = text(params, "requestId");
    match approved(world, request) {
        Some(device) => reply(json!({"requestId": request, "device": device})),
        None => Err(RpcError::invalid("unknown requestId")),
    }
}

/// Approves a request and sends the event to clients with the scope.
pub(crate) fn approved(world: &mut World, request: &str) -> Option<Value> {
    let token = world.ids.secret();
    let now_ms = world.clock.now_ms();
    let paired = world.devices.approve(request, token, now_ms)?.clone();
    resolved(world, request, &paired.request.device_id, "approved");
    Some(paired.to_json())
}

/// Rejects a request.
pub(crate) fn reject(world: &mut World, _: &Caller, params: &Value) -> Result<MethodOutput, RpcError> {
    let request = text(params, "requestId");
    let now_ms = world.clock.now_ms();
    world.devices.expire(now_ms);
    let Some(rejected) = world.devices.pending.remove(request) else {
        return Err(RpcError::invalid("unknown requestId"));
    };
    resolved(world, request, &rejected.device_id, "rejected");
    reply(json!({"requestId": request, "deviceId": rejected.device_id}))
}

fn resolved(world: &mut World, request: &str, device: &str, decision: &str) {
    let ts = world.clock.now_ms();
    let payload = json!({"requestId": request, "deviceId": device, "decision": decision, "ts": ts});
    world.emit("device.pair.resolved", &payload);
}

/// Removes a device.
pub(crate) fn remove(world: &mut World, _: &Caller, params: &Value) -> Result<MethodOutput, RpcError> {
    let device = text(params, "deviceId");
    if world.devices.paired.remove(device).is_none() {
        return Err(RpcError::invalid("unknown deviceId"));
    }
    Ok(MethodOutput::new(&json!({"deviceId": device}), FollowUp::CloseDevice(device.to_owned())))
}

/// Revokes a device's token.
pub(crate) fn revoke(world: &mut World, _: &Caller, params: &Value) -> Result<MethodOutput, RpcError> {
    let device = text(params, "deviceId");
    if !world.devices.revoke(device) {
        return Err(RpcError::invalid("unknown deviceId/role"));
    }
    let payload = json!({"deviceId": device, "role": params["role"], "revokedAtMs": world.clock.now_ms()});
    Ok(MethodOutput::new(&payload, FollowUp::CloseDevice(device.to_owned())))
}
