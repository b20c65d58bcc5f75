//! The options of the gateway's side of `muster doctor`.

use crate::gateway_connection::GatewayConnectionOptions;
use crate::openclaw::Auth;

/// How `muster doctor` reaches gateways.
#[derive(Debug, clap::Args)]
pub(crate) struct GatewaySideOptions {
    /// Also look at the gateway, over a connection of this command. The credential comes from the Secret that the AgentGateway names,
    /// unless an option gives one.
    #[arg(long)]
    connect: bool,
    /// Connect to this URL, ws:// or wss://, and not to spec.url: the gateway behind a port-forward, for example.
    // Not parsed by clap, whose error would repeat a credential in the URL.
    #[arg(long, value_name = "URL")]
    pub(super) gateway: Option<String>,
    #[command(flatten)]
    pub(super) connection: GatewayConnectionOptions,
}

impl GatewaySideOptions {
    /// Whether the command connects.
    pub(crate) fn is_wanted(&self) -> bool {
        self.connect || self.gateway.is_some()
    }

    /// Checks what the parser of the command line cannot.
    pub(crate) fn check(&self) -> Result<(), String> {
        let GatewayConnectionOptions { token_file, password_file, ca_file, fingerprint, .. } = &self.connection;
        let is_any = token_file.is_some() || password_file.is_some() || ca_file.is_some() || fingerprint.is_some();
        if is_any && !self.is_wanted() {
            return Err(
                "--token-file, --password-file, --ca-file and --fingerprint are for a connection; add --connect, or \
                        --gateway URL"
                    .into(),
            );
        }
        Ok(())
    }

    /// The credential that the options give. The one of the environment belongs to the gateway of `--gateway`, and to no other.
    pub(super) fn auth(&self) -> Result<Option<Auth>, String> {
        let is_given = self.connection.token_file.is_some() || self.connection.password_file.is_some();
        if is_given || self.gateway.is_some() { self.connection.auth() } else { Ok(None) }
    }
}
