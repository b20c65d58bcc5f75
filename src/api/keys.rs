//! Every name that Muster leaves on Kubernetes objects, in one place.

/// The API group of all resources.
pub const GROUP: &str = "muster.dev";
/// The field manager of everything that the operator writes.
pub const FIELD_MANAGER: &str = "muster";
/// The field manager of what people write through Muster's HTTP API, in their own name.
pub const PEOPLE_FIELD_MANAGER: &str = "muster-http-api";
/// On an Agent: something of it may be on a gateway.
pub const AGENT_FINALIZER: &str = "muster.dev/agent";
/// On an AgentGateway: agents are still bound to it.
pub const GATEWAY_FINALIZER: &str = "muster.dev/gateway";
/// On a gateway's device Secret: its credentials are needed for cleanup.
pub const CREDENTIALS_FINALIZER: &str = "muster.dev/credentials";
/// On an Agent, a Board or an AgentGateway: read and write everything of the agents again.
pub const SYNC_REQUESTED_AT: &str = "muster.dev/sync-requested-at";
/// The same, files that are normally kept included.
pub const OVERWRITE_REQUESTED_AT: &str = "muster.dev/overwrite-requested-at";
/// On an Agent, a Board or an AgentGateway: replace the agents' tokens.
pub const ROTATE_REQUESTED_AT: &str = "muster.dev/rotate-requested-at";
/// On an Agent, a Board or an AgentGateway: write BOOTSTRAP.md again.
pub const BOOTSTRAP_REQUESTED_AT: &str = "muster.dev/bootstrap-requested-at";
/// On an Agent, a Board or an AgentGateway: start the agents' sessions anew.
pub const RESET_SESSION_REQUESTED_AT: &str = "muster.dev/reset-session-requested-at";
/// On a token Secret: SHA-256 of the token that Muster put there. Another token was put there by hand.
pub const ISSUED_SHA256: &str = "muster.dev/issued-sha256";
/// On a token Secret: the request that its token was issued for.
pub const ISSUED_FOR: &str = "muster.dev/issued-for";
/// On Secrets: who made them.
pub const MANAGED_BY_LABEL: &str = "app.kubernetes.io/managed-by";
/// The value of [`MANAGED_BY_LABEL`].
pub const MANAGED_BY: &str = "muster";

/// Key of an agent's current token in its Secret.
pub const TOKEN_KEY: &str = "token";
/// Key of the token before, in an agent's Secret, as long as it still works.
pub const PREVIOUS_TOKEN_KEY: &str = "previous-token";
/// Key, in an agent's Secret, of its id in Muster's HTTP API: the uid of its resource.
pub const AGENT_ID_KEY: &str = "agent-id";
/// Key of the URL of Muster's HTTP API in an agent's Secret.
pub const API_URL_KEY: &str = "api-url";

/// Key of the Ed25519 seed (32 bytes) in a gateway's device Secret.
pub const DEVICE_SEED_KEY: &str = "device-key";
/// Key of the device id in a gateway's device Secret.
pub const DEVICE_ID_KEY: &str = "device-id";
/// Key of the device token that the gateway issued, in a gateway's device Secret.
pub const DEVICE_TOKEN_KEY: &str = "device-token";
/// Key of the last shared credential that the gateway accepted, kept for cleanup.
pub const LAST_GOOD_KEY: &str = "last-good-credential";
/// Key of the certificates with which that was: PEM.
pub const LAST_GOOD_CA_KEY: &str = "last-good-ca";
/// Key of the address of the gateway that took [`LAST_GOOD_KEY`]: it is shown to no other one.
pub const LAST_GOOD_URL_KEY: &str = "last-good-url";
/// Key of the kind of [`LAST_GOOD_KEY`]: `token` or `password`.
pub const LAST_GOOD_KIND_KEY: &str = "last-good-kind";

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_on_objects_are_unique_and_ours() {
        let ours = [
            AGENT_FINALIZER,
            GATEWAY_FINALIZER,
            CREDENTIALS_FINALIZER,
            SYNC_REQUESTED_AT,
            OVERWRITE_REQUESTED_AT,
            ROTATE_REQUESTED_AT,
            BOOTSTRAP_REQUESTED_AT,
            RESET_SESSION_REQUESTED_AT,
            ISSUED_SHA256,
            ISSUED_FOR,
        ];
        assert_eq!(ours.iter().collect::<BTreeSet<_>>().len(), ours.len());
        for name in ours {
            assert!(name.starts_with(&format!("{GROUP}/")), "{name}");
        }
        let keys = [
            TOKEN_KEY,
            PREVIOUS_TOKEN_KEY,
            AGENT_ID_KEY,
            API_URL_KEY,
            DEVICE_SEED_KEY,
            DEVICE_ID_KEY,
            DEVICE_TOKEN_KEY,
            LAST_GOOD_KEY,
            LAST_GOOD_KIND_KEY,
            LAST_GOOD_URL_KEY,
            LAST_GOOD_CA_KEY,
        ];
        assert_eq!(keys.iter().collect::<BTreeSet<_>>().len(), keys.len());
    }
}
