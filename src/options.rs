//! The options of `muster run`.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use ipnet::IpNet;

use url::Url;

use crate::address::networks::{gateway_network, network};
use crate::api::watched_namespaces::WatchedNamespaces;

/// The options of the operator.
#[derive(Debug, clap::Args)]
pub struct RunOptions {
    /// Kubeconfig file. Default: $KUBECONFIG or ~/.kube/config if there is one, else the pod's ServiceAccount.
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Work without a cluster: the operator keeps its objects in this directory, which it makes. `muster apply`, `get` and the other commands
    /// reach it by the file `kubeconfig` in the directory. The listeners are then on this host only, unless they are set.
    #[arg(long, env = "MUSTER_EMBEDDED", value_name = "DIR", conflicts_with = "kubeconfig")]
    pub embedded: Option<PathBuf>,
    /// Address of the embedded API for the commands, on this host.
    #[arg(long, env = "MUSTER_EMBEDDED_ADDR", default_value = "127.0.0.1:6443", value_name = "ADDR", value_parser = loopback)]
    pub embedded_addr: SocketAddr,
    /// Put a damaged database aside and go on with the last snapshot.
    #[arg(long, requires = "embedded")]
    pub embedded_restore: bool,
    /// The namespaces in which the operator works, separated by commas. The operator then needs only a Role in each of them. Default: all
    /// namespaces.
    #[arg(long, env = "MUSTER_NAMESPACES", value_name = "NAMES")]
    pub namespaces: Option<WatchedNamespaces>,
    /// Where the operator listens.
    #[command(flatten)]
    pub listen: ListenOptions,
    /// How this operator shares its work with other replicas.
    #[command(flatten)]
    pub election: ElectionOptions,
    /// Networks in which gateways may be, such as 10.0.0.0/8, separated by commas. Default: all networks, and in a cluster no loopback. Link-local
    /// addresses and addresses of metadata services are never allowed.
    #[arg(long, env = "MUSTER_GATEWAY_NETWORKS", value_name = "CIDRS", value_delimiter = ',', value_parser = gateway_network)]
    pub gateway_networks: Vec<IpNet>,
    /// Allow a path in spec.url of an AgentGateway, for gateways behind a proxy.
    #[arg(long, env = "MUSTER_ALLOW_GATEWAY_PATHS")]
    pub allow_gateway_paths: bool,
    /// Base URL of the HTTP API as agents reach it, with http:// or https://. Default of spec.apiUrl of AgentGateways.
    #[arg(long, env = "MUSTER_API_URL", value_name = "URL", value_parser = api_url)]
    pub api_url: Option<String>,
    /// Proxy on the way to gateways with wss, in the form `http://proxy:3128`, with user:password@ before the host if the proxy wants them. Give a
    /// password in the environment: users of the host can read arguments.
    #[arg(
        long,
        env = "HTTPS_PROXY",
        hide_env_values = true,
        value_name = "URL",
        default_value = "",
        hide_default_value = true
    )]
    pub https_proxy: String,
    /// Hosts without the proxy: names, addresses and networks, separated by commas. A name stands for the names below it too.
    #[arg(long, env = "NO_PROXY", value_name = "HOSTS", default_value = "", hide_default_value = true)]
    pub no_proxy: String,
    /// Format of the log lines on standard error.
    #[arg(long, env = "MUSTER_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
    /// The lowest level of the operator's own log lines. The variable `RUST_LOG`, if it is set, is the whole filter and counts instead.
    #[arg(long, env = "MUSTER_LOG_LEVEL", value_enum, default_value_t = LogLevel::Info)]
    pub log_level: LogLevel,
}

/// How several replicas of the operator share their work.
#[derive(Debug, clap::Args)]
pub struct ElectionOptions {
    /// Work only while this replica holds the Lease muster. Needs --leader-election-namespace and --advertise-ip.
    #[arg(
        long,
        env = "MUSTER_LEADER_ELECT",
        conflicts_with = "embedded",
        requires = "leader_election_namespace",
        requires = "advertise_ip"
    )]
    pub leader_elect: bool,
    /// Namespace of the Lease. In a pod, `POD_NAMESPACE` is the field metadata.namespace of the downward API.
    #[arg(long, env = "POD_NAMESPACE", value_name = "NAMESPACE")]
    pub leader_election_namespace: Option<String>,
    /// Address at which other replicas reach the HTTP API of this one. In a pod, `POD_IP` is the field status.podIP of the downward API.
    #[arg(long, env = "POD_IP", value_name = "IP")]
    pub advertise_ip: Option<IpAddr>,
    /// Name of this replica in the Lease, before a random suffix.
    #[arg(long, env = "POD_NAME", value_name = "NAME", default_value = "muster")]
    pub replica_name: String,
}

/// Where the operator listens.
#[derive(Debug, clap::Args)]
pub struct ListenOptions {
    /// Address of the HTTP API for agents and people, and of the fleet page. Default: 0.0.0.0:8080, with --embedded 127.0.0.1:8080.
    #[arg(
        long,
        env = "MUSTER_API_ADDR",
        default_value = "0.0.0.0:8080",
        hide_default_value = true,
        value_name = "ADDR",
        default_value_if("embedded", clap::builder::ArgPredicate::IsPresent, "127.0.0.1:8080")
    )]
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
    /// Address of /livez and /readyz. Default: 0.0.0.0:8081, with --embedded 127.0.0.1:8081.
    #[arg(
        long,
        env = "MUSTER_PROBE_ADDR",
        default_value = "0.0.0.0:8081",
        hide_default_value = true,
        value_name = "ADDR",
        default_value_if("embedded", clap::builder::ArgPredicate::IsPresent, "127.0.0.1:8081")
    )]
    pub probe_addr: SocketAddr,
    /// Address of /metrics. Default: 0.0.0.0:8082, with --embedded 127.0.0.1:8082.
    #[arg(
        long,
        env = "MUSTER_METRICS_ADDR",
        default_value = "0.0.0.0:8082",
        hide_default_value = true,
        value_name = "ADDR",
        default_value_if("embedded", clap::builder::ArgPredicate::IsPresent, "127.0.0.1:8082")
    )]
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

/// The lowest level of the log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum LogLevel {
    /// Failures that need a person.
    Error,
    /// Failures that Muster retries, too.
    Warn,
    /// What Muster does, too.
    Info,
    /// How Muster decides, too.
    Debug,
    /// Everything.
    Trace,
}

impl LogLevel {
    /// The filter of the log. kube logs each refusal of a watch itself, in full; the operator says it shorter and less often.
    #[must_use]
    pub fn filter(self) -> String {
        let (level, others) = match self {
            Self::Error => ("error", "error"),
            Self::Warn => ("warn", "warn"),
            Self::Info => ("info", "info"),
            Self::Debug => ("debug", "info"),
            Self::Trace => ("trace", "info"),
        };
        let kube = if self == Self::Error { "error" } else { "warn" };
        format!("{others},kube={kube},kube_runtime=error,muster={level}")
    }
}

/// The longest `spec.apiUrl`.
const MAX_API_URL_CHARS: usize = 512;

/// An address of this host. Whoever reaches the embedded API from elsewhere could try tokens.
fn loopback(text: &str) -> Result<SocketAddr, String> {
    let address: SocketAddr =
        text.parse().map_err(|_| "give an address and a port, such as 127.0.0.1:6443".to_owned())?;
    if address.ip().is_loopback() {
        return Ok(address);
    }
    Err("the embedded API listens on this host only; give an address such as 127.0.0.1:6443".into())
}

/// Checks a base URL by the rules of `spec.apiUrl`.
fn api_url(text: &str) -> Result<String, String> {
    let url = Url::parse(text).map_err(|e| format!("{e}; give a URL such as http://muster.muster-system.svc:8080"))?;
    if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
        return Err("give a URL that begins with http:// or https:// and names a host".into());
    }
    if !url.username().is_empty() || url.password().is_some() || url.query().is_some() || url.fragment().is_some() {
        return Err("the URL is written to the files of agents; leave out credentials, query and fragment".into());
    }
    if text.len() > MAX_API_URL_CHARS {
        return Err(format!("the URL has more than {MAX_API_URL_CHARS} characters"));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;
    use tracing_subscriber::EnvFilter;

    use super::{LogLevel, api_url};

    #[test]
    fn each_log_level_is_a_filter_that_lets_the_operators_own_lines_pass() {
        for level in LogLevel::value_variants() {
            let filter: EnvFilter = level.filter().parse().unwrap();
            let own = format!("muster={}", level.to_possible_value().unwrap().get_name());
            assert!(filter.to_string().contains(&own), "{filter}");
        }
    }

    #[test]
    fn a_default_api_url_is_http_without_credentials_query_and_fragment() {
        for good in ["http://muster.muster-system.svc:8080", "https://muster.example.com/agents", "http://[::1]:8080"] {
            assert_eq!(api_url(good).as_deref(), Ok(good));
        }
        let long = format!("http://{}", "a".repeat(512));
        for bad in ["muster:8080", "ws://muster", "http://u:p@muster", "http://muster?a", "http://muster#a", "", &long]
        {
            assert!(api_url(bad).is_err(), "{bad}");
        }
    }
}
