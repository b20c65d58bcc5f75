//! Starts the real parts: control plane, gateway with a scripted model, operator.
