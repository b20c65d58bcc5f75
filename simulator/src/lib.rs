//! A WebSocket gateway that behaves as real OpenClaw gateways were measured to, with faults.
