//! Muster: a Kubernetes operator for agents that run on OpenClaw gateways.
