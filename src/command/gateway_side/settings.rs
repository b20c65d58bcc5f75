//! The settings of the connection: from the AgentGateway and its Secrets, with the rights of the user, or from the options.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use kube::ResourceExt;
use url::Url;

use super::options::GatewaySideOptions;
use crate::api::AgentGateway;
use crate::api::shared::SecretKeyRef;
use crate::command::checks::{Check, CheckResult};
use crate::command::requests::ObjectPath;
use crate::command::session::{Cluster, CommandError};
use crate::command::tree::kind;
use crate::core::gateway::credential;
use crate::gateway_connection::{gateway_url, is_in_clear, settings};
use crate::openclaw::{Auth, ConnectionSettings, Fingerprint, Trust};

/// The name of the check of these settings.
const NAME: &str = "connection";

/// The URL that the options or the AgentGateway name.
pub(super) fn url(options: &GatewaySideOptions, gateway: &AgentGateway) -> Result<Url, Check> {
    let (field, text) = match &options.gateway {
        Some(text) => ("--gateway", text),
        None => ("spec.url", &gateway.spec.url),
    };
    let wrong = |error: String, next_step: &str| Check::new(NAME, CheckResult::Wrong, error, next_step);
    let url = gateway_url(field, text).map_err(|error| wrong(error, &format!("Correct {field}.")))?;
    if options.gateway.is_none() && is_in_clear(&url) {
        let found = format!("{field} {url} would take the credential over the network in clear");
        let next_step = format!(
            "Run kubectl port-forward to the gateway, and give --gateway ws://127.0.0.1:PORT. If nobody else can listen, give --gateway {url}."
        );
        return Err(wrong(found, &next_step));
    }
    Ok(url)
}

/// The settings of the connection, with a device key of its own: the gateway may close other connections of the operator's device.
///
/// # Errors
/// A check that says what is missing; the outer error is that of an API server that does not answer.
pub(super) async fn read(
    options: &GatewaySideOptions,
    gateway: &AgentGateway,
    url: &Url,
    cluster: &Cluster,
) -> Result<Result<ConnectionSettings, Check>, CommandError> {
    let invalid = |error: String| Check::new(NAME, CheckResult::Wrong, error, "");
    let auth = match options.auth() {
        Ok(Some(auth)) => auth,
        Ok(None) => match auth(gateway, cluster).await? {
            Ok(auth) => auth,
            Err(check) => return Ok(Err(check)),
        },
        Err(error) => return Ok(Err(invalid(error))),
    };
    let trust = match options.connection.trust(url) {
        Ok(Some(trust)) => trust,
        Ok(None) => match trust(gateway, cluster).await? {
            Ok(trust) => trust,
            Err(check) => return Ok(Err(check)),
        },
        Err(error) => return Ok(Err(invalid(error))),
    };
    Ok(settings(url, auth, trust).map_err(invalid))
}

async fn auth(gateway: &AgentGateway, cluster: &Cluster) -> Result<Result<Auth, Check>, CommandError> {
    let auth = &gateway.spec.auth;
    let (reference, field, wrap): (_, _, fn(String) -> Auth) = match (&auth.token_secret_ref, &auth.password_secret_ref)
    {
        (Some(reference), _) => (reference, "spec.auth.tokenSecretRef", |text| Auth::Token(text.into())),
        (None, Some(reference)) => (reference, "spec.auth.passwordSecretRef", |text| Auth::Password(text.into())),
        (None, None) => {
            let found = "spec.auth names no Secret";
            return Ok(Err(Check::new(NAME, CheckResult::Wrong, found, "Set spec.auth, or give --token-file.")));
        }
    };
    let found = value(gateway, reference, field, "--token-file or --password-file", cluster).await?;
    Ok(found.map(|text| wrap(credential::of_file(&text).to_owned())))
}

async fn trust(gateway: &AgentGateway, cluster: &Cluster) -> Result<Result<Trust, Check>, CommandError> {
    let Some(tls) = &gateway.spec.tls else { return Ok(Ok(Trust::Platform)) };
    if tls.insecure_skip_verify {
        return Ok(Ok(Trust::Unchecked));
    }
    let mut pem = None;
    if let Some(reference) = &tls.ca_secret_ref {
        match value(gateway, reference, "spec.tls.caSecretRef", "--ca-file", cluster).await? {
            Ok(text) => pem = Some(text.into_bytes()),
            Err(check) => return Ok(Err(check)),
        }
    }
    Ok(match (&tls.fingerprint, pem) {
        (Some(text), pem) => Fingerprint::parse(text)
            .map(|fingerprint| Trust::Pinned { fingerprint, pem })
            .ok_or_else(|| Check::new(NAME, CheckResult::Wrong, "spec.tls.fingerprint is no SHA-256", "Correct it.")),
        (None, Some(pem)) => Ok(Trust::Pem(pem)),
        (None, None) => Ok(Trust::Platform),
    })
}

/// The value of a Secret's key.
async fn value(
    gateway: &AgentGateway,
    SecretKeyRef { name, key }: &SecretKeyRef,
    field: &str,
    option: &str,
    cluster: &Cluster,
) -> Result<Result<String, Check>, CommandError> {
    let namespace = gateway.namespace().unwrap_or_default();
    let path = ObjectPath { resource: kind("secrets")?, namespace: Some(&namespace) };
    let secret = match path.get(&cluster.client, name).await {
        Ok(secret) => secret,
        Err(error) if error.code() == Some(404) => {
            let found = format!("Secret {namespace}/{name}, which {field} names, does not exist");
            return Ok(Err(Check::new(NAME, CheckResult::Wrong, found, &format!("Create it, or give {option}."))));
        }
        Err(error) if error.code().is_some() => {
            let next_step =
                format!("Ask for the right to get Secret {name} in namespace {namespace}, or give {option}.");
            return Ok(Err(Check::new(NAME, CheckResult::Wrong, error.to_string(), &next_step)));
        }
        Err(error) => return Err(error.into()),
    };
    let bytes = secret["data"][key].as_str().and_then(|text| STANDARD.decode(text).ok());
    let text = bytes.and_then(|bytes| String::from_utf8(bytes).ok()).filter(|text| !text.is_empty());
    Ok(text.ok_or_else(|| {
        let found = format!("Secret {namespace}/{name} has no text under the key {key}, which {field} names");
        Check::new(NAME, CheckResult::Wrong, found, &format!("Add it, or give {option}."))
    }))
}
