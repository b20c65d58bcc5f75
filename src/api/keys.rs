//! All names that Muster writes to Kubernetes objects.

/// The API group of all resources.
pub const GROUP: &str = "muster.dev";
/// The field manager of the operator's writes.
pub const FIELD_MANAGER: &str = "muster";
/// The field manager of writes through Muster's HTTP API with a person's own token.
pub const PEOPLE_FIELD_MANAGER: &str = "muster-http-api";
/// The field manager of writes of the commands for people, such as `muster apply`.
pub const COMMAND_FIELD_MANAGER: &str = "muster-command";
/// The annotation in which `kubectl apply` and `muster apply` keep the last manifest.
pub const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// On an Agent: the agent may exist on a gateway.
pub const AGENT_FINALIZER: &str = "muster.dev/agent";
/// On an AgentGateway: agents are still bound to it.
pub const GATEWAY_FINALIZER: &str = "muster.dev/gateway";
/// On a gateway's device Secret: cleanup needs its credentials.
pub const CREDENTIALS_FINALIZER: &str = "muster.dev/credentials";
/// On an Agent, a Board or an AgentGateway: any new value requests a reconcile, which `status.lastHandledReconcileAt` answers.
pub const RECONCILE_REQUESTED_AT: &str = "muster.dev/reconcile-requested-at";
/// On an Agent, a Board or an AgentGateway: requests that Muster reads and writes everything of the agents again.
pub const SYNC_REQUESTED_AT: &str = "muster.dev/sync-requested-at";
/// The same request, including files that Muster normally keeps.
pub const OVERWRITE_REQUESTED_AT: &str = "muster.dev/overwrite-requested-at";
/// On an Agent, a Board or an AgentGateway: requests new tokens for the agents.
pub const ROTATE_REQUESTED_AT: &str = "muster.dev/rotate-requested-at";
/// On an Agent, a Board or an AgentGateway: requests that Muster writes BOOTSTRAP.md again.
pub const BOOTSTRAP_REQUESTED_AT: &str = "muster.dev/bootstrap-requested-at";
/// On an Agent, a Board or an AgentGateway: requests a reset of the agents' sessions.
pub const RESET_SESSION_REQUESTED_AT: &str = "muster.dev/reset-session-requested-at";
/// On an Agent, a Board or an AgentGateway: requests a wake message to the agents.
pub const WAKE_REQUESTED_AT: &str = "muster.dev/wake-requested-at";
/// On an Agent, a Board, an AgentGateway, a namespace or a CustomResourceDefinition of these kinds: `true` refuses the deletion. The
/// admission policy `deploy/base/protectionpolicy.yaml` refuses it, and the agent of a protected Agent stays when its AgentGateway goes.
pub const PROTECTED: &str = "muster.dev/protected";
/// On a token Secret: SHA-256 of the token that Muster wrote. A token with another hash was written by hand.
pub const ISSUED_SHA256: &str = "muster.dev/issued-sha256";
/// On a token Secret: the one-shot request for which Muster issued the token.
pub const ISSUED_FOR: &str = "muster.dev/issued-for";
/// On an Agent: the gateway's id of its agent. While the Agent has no binding, the annotation is a claim: a backup keeps it.
pub const AGENT_ID: &str = "muster.dev/agent-id";
/// The name of the Lease of the election.
pub const LEASE: &str = "muster";
/// On the Lease of the election: the address of the leader's HTTP API.
pub const LEADER_ADDRESS: &str = "muster.dev/leader-address";
/// On the Lease of the election: the SHA-256 fingerprint of the certificate that the leader serves.
pub const LEADER_CERTIFICATE: &str = "muster.dev/leader-certificate";
/// On Secrets: the creator of the Secret.
pub const MANAGED_BY_LABEL: &str = "app.kubernetes.io/managed-by";
/// The value of [`MANAGED_BY_LABEL`].
pub const MANAGED_BY: &str = "muster";

/// Key of the current token in an agent's Secret.
pub const TOKEN_KEY: &str = "token";
/// Key of the previous token in an agent's Secret, present while Muster accepts that token.
pub const PREVIOUS_TOKEN_KEY: &str = "previous-token";
/// Key of the agent's id in an agent's Secret: the uid of its Agent, which Muster's HTTP API accepts.
pub const AGENT_ID_KEY: &str = "agent-id";
/// Key of the URL of Muster's HTTP API in an agent's Secret.
pub const API_URL_KEY: &str = "api-url";

/// Key of the Ed25519 seed in a gateway's device Secret: 32 bytes.
pub const DEVICE_SEED_KEY: &str = "device-key";
/// Key of the device id in a gateway's device Secret.
pub const DEVICE_ID_KEY: &str = "device-id";
/// Key of the gateway's device token in a gateway's device Secret.
pub const DEVICE_TOKEN_KEY: &str = "device-token";
/// Key of the address of the gateway that issued [`DEVICE_TOKEN_KEY`]. Muster sends the token to no other address.
pub const DEVICE_TOKEN_URL_KEY: &str = "device-token-url";
/// Key of the shared credential that the gateway last accepted, kept for cleanup.
pub const LAST_GOOD_KEY: &str = "last-good-credential";
/// Key of the PEM certificates of the connection that accepted [`LAST_GOOD_KEY`].
pub const LAST_GOOD_CA_KEY: &str = "last-good-ca";
/// Key of the address of the gateway that accepted [`LAST_GOOD_KEY`]. Muster sends the credential to no other address.
pub const LAST_GOOD_URL_KEY: &str = "last-good-url";
/// Key of the kind of [`LAST_GOOD_KEY`]: `token` or `password`.
pub const LAST_GOOD_KIND_KEY: &str = "last-good-kind";

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_on_objects_are_unique_and_in_the_api_group() {
        let names = [
            AGENT_FINALIZER,
            GATEWAY_FINALIZER,
            CREDENTIALS_FINALIZER,
            SYNC_REQUESTED_AT,
            OVERWRITE_REQUESTED_AT,
            ROTATE_REQUESTED_AT,
            BOOTSTRAP_REQUESTED_AT,
            RESET_SESSION_REQUESTED_AT,
            WAKE_REQUESTED_AT,
            PROTECTED,
            ISSUED_SHA256,
            ISSUED_FOR,
            AGENT_ID,
        ];
        assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len());
        for name in names {
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
            DEVICE_TOKEN_URL_KEY,
            LAST_GOOD_KEY,
            LAST_GOOD_KIND_KEY,
            LAST_GOOD_URL_KEY,
            LAST_GOOD_CA_KEY,
        ];
        assert_eq!(keys.iter().collect::<BTreeSet<_>>().len(), keys.len());
    }
}
