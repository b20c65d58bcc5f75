//! The options of `muster run`.

use std::net::SocketAddr;
use std::path::PathBuf;

use ipnet::IpNet;

use crate::address::networks::network;

/// The options of the operator.
#[derive(Debug, clap::Args)]
pub struct RunOptions {
    /// Kubeconfig file. Default: the pod's ServiceAccount in a cluster, else $KUBECONFIG or ~/.kube/config.
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Where the operator listens.
    #[command(flatten)]
    pub listen: ListenOptions,
    /// Networks in which gateways may be, such as 10.0.0.0/8, separated by commas. Default: all networks, and in a cluster no loopback. Link-local
    /// addresses and addresses of metadata services are never allowed.
    #[arg(long, env = "MUSTER_GATEWAY_NETWORKS", value_name = "CIDRS", value_delimiter = ',', value_parser = network)]
    pub gateway_networks: Vec<IpNet>,
    /// Allow a path in spec.url of an AgentGateway, for gateways behind a proxy.
    #[arg(long, env = "MUSTER_ALLOW_GATEWAY_PATHS")]
    pub allow_gateway_paths: bool,
    /// Format of the log lines on standard error.
    #[arg(long, env = "MUSTER_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
}

/// Where the operator listens.
#[derive(Debug, clap::Args)]
pub struct ListenOptions {
    /// Address of the HTTP API for agents and people, and of the fleet page.
    #[arg(long, env = "MUSTER_API_ADDR", default_value = "0.0.0.0:8080", value_name = "ADDR")]
    pub api_addr: SocketAddr,
    /// File with the TLS certificate of the HTTP API and its chain, PEM. Needs --tls-key-file. A changed file is reloaded. The API then
    /// speaks HTTPS only. Default: a certificate is made at each start, and agents may use HTTP too.
    #[arg(long, env = "MUSTER_TLS_CERT_FILE", value_name = "FILE", requires = "tls_key_file")]
    pub tls_cert_file: Option<PathBuf>,
    /// File with the private key of the TLS certificate, PEM. Needs --tls-cert-file.
    #[arg(long, env = "MUSTER_TLS_KEY_FILE", value_name = "FILE", requires = "tls_cert_file")]
    pub tls_key_file: Option<PathBuf>,
    /// Take the Kubernetes tokens of people without TLS too, from every address. For a proxy that ends TLS before Muster.
    #[arg(long, env = "MUSTER_ALLOW_HTTP_TOKENS")]
    pub allow_http_tokens: bool,
    /// Networks of the proxies whose header X-Forwarded-For names the client, such as 10.0.0.0/8. Separated by commas.
    #[arg(long, env = "MUSTER_TRUSTED_PROXIES", value_name = "CIDRS", value_delimiter = ',', value_parser = network)]
    pub trusted_proxies: Vec<IpNet>,
    /// Address of /livez and /readyz.
    #[arg(long, env = "MUSTER_PROBE_ADDR", default_value = "0.0.0.0:8081", value_name = "ADDR")]
    pub probe_addr: SocketAddr,
    /// Address of /metrics.
    #[arg(long, env = "MUSTER_METRICS_ADDR", default_value = "0.0.0.0:8082", value_name = "ADDR")]
    pub metrics_addr: SocketAddr,
}

/// Format of the log lines on standard error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// Text for people.
    Text,
    /// One JSON object a line.
    Json,
}
