//! The credentials for a gateway: from the user's Secret, and from the device Secret of Muster.
//!
//! The device Secret contains the device identity, the token that the gateway issued for it, and the last credential that worked. Muster
//! sends a stored credential only to the scheme, host and port at which the credential worked. The Secret
//! keeps a finalizer until no Agent is bound to the gateway, because the deletion of a namespace deletes the user's Secret first.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::Resource;
use kube::api::ObjectMeta;
use secrecy::{ExposeSecret, SecretString};
use tracing::info;
use url::Url;

use crate::api::object_key::ObjectKey;
use crate::api::shared::SecretKeyRef;
use crate::api::{AgentGateway, Reason, keys};
use crate::core::error::ReconcileError;
use crate::core::gateway::credential;
use crate::core::gateway_ref::server;
use crate::core::objects::{GatewayIndex, Objects};
use crate::core::ownership::{self, Owner};
use crate::openclaw::model::{Credential, Hello};
use crate::openclaw::{Auth, DeviceKey, Fingerprint, Trust};
use crate::state::kube_store::KubeStore;

/// The credentials for a gateway.
#[derive(Debug)]
pub struct Credentials {
    /// The shared credential.
    pub auth: Auth,
    /// The credential that worked last at this address, if it differs.
    pub previous: Option<Auth>,
    /// The verification of the gateway's certificate.
    pub trust: Trust,
    /// The device Secret.
    pub device: DeviceSecret,
}

/// Muster's device Secret.
pub struct DeviceSecret {
    /// The key of the device.
    pub identity: Arc<DeviceKey>,
    /// The token that the gateway at this address issued for it.
    pub token: Option<SecretString>,
    secret: Secret,
}

impl fmt::Debug for DeviceSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeviceSecret").field("identity", &self.identity).finish_non_exhaustive()
    }
}

impl Credentials {
    /// A hash over everything that the connection depends on. It is derived from secrets and must not be shown.
    #[must_use]
    pub fn fingerprint(&self, gateway: &AgentGateway) -> String {
        let (kind, secret) = parts(&self.auth);
        let trust = format!("{:?}", self.trust);
        let spec = &gateway.spec;
        let parts = [
            spec.url.as_str(),
            kind,
            secret,
            self.device.identity.device_id(),
            &trust,
            &format!("{:?} {} {}", spec.resync_interval(), spec.max_in_flight(), spec.max_concurrent_reconciles()),
        ];
        crate::hash::sha256_hex(parts.join("\n"))
    }
}

/// Reads the credentials of a gateway, and creates a missing device Secret.
///
/// # Errors
/// A Secret, a key or a field of the spec is missing or invalid.
pub async fn read(store: &KubeStore, gateway: &AgentGateway) -> Result<Credentials, ReconcileError> {
    let key = device_key(gateway);
    let secret = match store.secret(&key).await? {
        Some(secret) => adopted(store, gateway, secret).await?,
        None => store.create_secret(&new_device(gateway, &key)?).await?,
    };
    with_device(store, gateway, device(gateway, &key, secret)?).await
}

/// Reads the credentials of a gateway, if its device Secret is as Muster leaves it. Writes nothing.
///
/// # Errors
/// As of [`read`].
pub async fn read_only(store: &KubeStore, gateway: &AgentGateway) -> Result<Option<Credentials>, ReconcileError> {
    let key = device_key(gateway);
    let uid = gateway.metadata.uid.as_deref();
    let is_kept = |secret: &Secret| {
        ownership::owner(store, &secret.metadata, uid) == Owner::This
            && ownership::has_finalizer(&secret.metadata, keys::CREDENTIALS_FINALIZER)
    };
    match store.secret(&key).await?.filter(is_kept) {
        None => Ok(None),
        Some(secret) => with_device(store, gateway, device(gateway, &key, secret)?).await.map(Some),
    }
}

fn device_key(gateway: &AgentGateway) -> ObjectKey {
    ObjectKey::new(gateway.metadata.namespace.as_deref().unwrap_or_default(), gateway.device_secret_name())
}

async fn with_device(
    store: &KubeStore,
    gateway: &AgentGateway,
    device: DeviceSecret,
) -> Result<Credentials, ReconcileError> {
    let namespace = gateway.metadata.namespace.clone().unwrap_or_default();
    let (reference, field, wrap): (_, _, fn(SecretString) -> Auth) =
        match (&gateway.spec.auth.token_secret_ref, &gateway.spec.auth.password_secret_ref) {
            (Some(reference), _) => (reference, "spec.auth.tokenSecretRef", Auth::Token),
            (None, Some(reference)) => (reference, "spec.auth.passwordSecretRef", Auth::Password),
            (None, None) => {
                let message = "spec.auth names neither tokenSecretRef nor passwordSecretRef";
                return Err(ReconcileError::permanent(Reason::InvalidSpec, message));
            }
        };
    let auth = match value(store, &namespace, reference, field).await {
        Ok(value) => wrap(value.into()),
        // The user's Secret may be deleted before the gateway. The cleanup then uses the last credential that worked.
        Err(error) => {
            last_good(gateway, &device).filter(|_| gateway.metadata.deletion_timestamp.is_some()).ok_or(error)?
        }
    };
    let previous = last_good(gateway, &device).filter(|previous| parts(previous) != parts(&auth));
    let trust = trust(store, gateway, &namespace, &device).await?;
    Ok(Credentials { auth, previous, trust, device })
}

async fn trust(
    store: &KubeStore,
    gateway: &AgentGateway,
    namespace: &str,
    device: &DeviceSecret,
) -> Result<Trust, ReconcileError> {
    let Some(tls) = &gateway.spec.tls else { return Ok(Trust::Platform) };
    if tls.insecure_skip_verify {
        return Ok(Trust::Unchecked);
    }
    let pem = match &tls.ca_secret_ref {
        None => None,
        Some(reference) => match value(store, namespace, reference, "spec.tls.caSecretRef").await {
            Ok(pem) => Some(pem.into_bytes()),
            Err(error) => Some(last_good_ca(gateway, device).ok_or(error)?),
        },
    };
    let fingerprint = tls.fingerprint.as_ref().map(|text| {
        let message = format!(
            "spec.tls.fingerprint {text:?} is no SHA-256 in hexadecimal: 64 digits, colons between them or not"
        );
        Fingerprint::parse(text).ok_or_else(|| ReconcileError::permanent(Reason::InvalidSpec, message))
    });
    Ok(match (fingerprint.transpose()?, pem) {
        (Some(fingerprint), pem) => Trust::Pinned { fingerprint, pem },
        (None, Some(pem)) => Trust::Pem(pem),
        (None, None) => Trust::Platform,
    })
}

/// The last shared credential that worked at the address of the gateway.
fn last_good(gateway: &AgentGateway, device: &DeviceSecret) -> Option<Auth> {
    if !is_of_server(gateway, text(&device.secret, keys::LAST_GOOD_URL_KEY)) {
        return None;
    }
    let value: SecretString = text(&device.secret, keys::LAST_GOOD_KEY)?.into();
    match text(&device.secret, keys::LAST_GOOD_KIND_KEY)?.as_str() {
        "password" => Some(Auth::Password(value)),
        _ => Some(Auth::Token(value)),
    }
}

/// Whether a recorded URL has the scheme, the host and the port of the gateway's URL.
fn is_of_server(gateway: &AgentGateway, recorded: Option<String>) -> bool {
    let of = |url: &str| Url::parse(url).ok().map(|url| server(&url));
    recorded.and_then(|url| of(&url)).is_some_and(|recorded| of(&gateway.spec.url) == Some(recorded))
}

/// The kind of a credential, and its value.
fn parts(auth: &Auth) -> (&'static str, &str) {
    match auth {
        Auth::Token(value) => ("token", value.expose_secret()),
        Auth::Password(value) => ("password", value.expose_secret()),
    }
}

/// The last CA that worked; `None` unless the gateway is being deleted.
fn last_good_ca(gateway: &AgentGateway, device: &DeviceSecret) -> Option<Vec<u8>> {
    gateway.metadata.deletion_timestamp.as_ref()?;
    Some(text(&device.secret, keys::LAST_GOOD_CA_KEY)?.into_bytes())
}

async fn value(
    store: &KubeStore,
    namespace: &str,
    reference: &SecretKeyRef,
    field: &str,
) -> Result<String, ReconcileError> {
    let SecretKeyRef { name, key } = reference;
    let found = store.secret(&ObjectKey::new(namespace, name)).await?;
    let secret = found.ok_or_else(|| {
        let message =
            format!("Secret {namespace}/{name}, which {field} names, does not exist; create it or change that field");
        ReconcileError { transient: true, ..ReconcileError::permanent(Reason::SecretNotFound, message) }
    })?;
    let value = text(&secret, key).map(|v| credential::of_file(&v).to_owned()).filter(|v| !v.is_empty());
    value.ok_or_else(|| {
        let message = format!("Secret {namespace}/{name}, which {field} names, has no text under the key {key:?}; add it or change that field");
        ReconcileError { transient: true, ..ReconcileError::permanent(Reason::SecretNotFound, message) }
    })
}

fn text(secret: &Secret, key: &str) -> Option<String> {
    String::from_utf8(secret.data.as_ref()?.get(key)?.0.clone()).ok()
}

fn device(gateway: &AgentGateway, key: &ObjectKey, secret: Secret) -> Result<DeviceSecret, ReconcileError> {
    let broken = |what: &str| {
        let message = format!(
            "Secret {key}, which keeps the device identity, {what}; restore it, or name another Secret in spec.device.secretName for a new identity (which a remote gateway has to approve again)"
        );
        ReconcileError { transient: true, ..ReconcileError::permanent(Reason::SecretInvalid, message) }
    };
    let seed = text(&secret, keys::DEVICE_SEED_KEY).ok_or_else(|| broken("lacks the key device-key"))?;
    let seed = URL_SAFE_NO_PAD.decode(seed.trim()).ok().and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
    let seed = seed.ok_or_else(|| broken("holds no Ed25519 seed of 32 bytes (base64url) under device-key"))?;
    // Versions of Muster before `device-token-url` recorded one address for both credentials.
    let issued_at = text(&secret, keys::DEVICE_TOKEN_URL_KEY).or_else(|| text(&secret, keys::LAST_GOOD_URL_KEY));
    let token = text(&secret, keys::DEVICE_TOKEN_KEY).filter(|t| !t.is_empty()).map(SecretString::from);
    let token = token.filter(|_| is_of_server(gateway, issued_at));
    Ok(DeviceSecret { identity: Arc::new(DeviceKey::from_seed(&seed)), token, secret })
}

/// Adopts a device Secret of Muster that lost its owner, for example in a restore from a backup: adds the owner reference and the
/// finalizer. A Secret of a person stays unchanged.
async fn adopted(store: &KubeStore, gateway: &AgentGateway, secret: Secret) -> Result<Secret, ReconcileError> {
    let meta = &secret.metadata;
    let is_adopted = match ownership::owner(store, meta, gateway.metadata.uid.as_deref()) {
        Owner::This => true,
        Owner::Absent => {
            ownership::has_managed_by_label(meta) || ownership::has_finalizer(meta, keys::CREDENTIALS_FINALIZER)
        }
        Owner::Other => false,
    };
    if !is_adopted {
        return Ok(secret);
    }
    let mut wanted = secret.clone();
    ownership::take_ownership(&mut wanted.metadata, gateway);
    // Kubernetes accepts no new finalizer on an object that is being deleted.
    if meta.deletion_timestamp.is_none() && !ownership::has_finalizer(meta, keys::CREDENTIALS_FINALIZER) {
        wanted.metadata.finalizers.get_or_insert_default().push(keys::CREDENTIALS_FINALIZER.to_owned());
    }
    if wanted.metadata == secret.metadata {
        return Ok(secret);
    }
    Ok(store.replace_secret(&wanted).await?)
}

fn new_device(gateway: &AgentGateway, key: &ObjectKey) -> Result<Secret, ReconcileError> {
    let identity = DeviceKey::generate().map_err(|e| {
        ReconcileError::transient(Reason::KubernetesError, format!("no randomness for a device identity: {e}"))
    })?;
    let seed = URL_SAFE_NO_PAD.encode(identity.seed());
    let data = [(keys::DEVICE_SEED_KEY, seed), (keys::DEVICE_ID_KEY, identity.device_id().to_owned())];
    let metadata = ObjectMeta {
        name: Some(key.name.clone()),
        namespace: Some(key.namespace.clone()),
        labels: Some([(keys::MANAGED_BY_LABEL.to_owned(), keys::MANAGED_BY.to_owned())].into()),
        finalizers: Some(vec![keys::CREDENTIALS_FINALIZER.to_owned()]),
        owner_references: Some(gateway.controller_owner_ref(&()).into_iter().collect()),
        ..ObjectMeta::default()
    };
    let data: BTreeMap<_, _> = data.into_iter().map(|(k, v)| (k.to_owned(), ByteString(v.into_bytes()))).collect();
    Ok(Secret { metadata, data: Some(data), ..Secret::default() })
}

/// Stores what the connection was opened with: the shared credential, if it was used, the CA, and the issued device token.
///
/// # Errors
/// The request to Kubernetes that failed.
pub async fn keep(
    store: &KubeStore,
    gateway: &AgentGateway,
    credentials: &Credentials,
    hello: &Hello,
) -> Result<(), ReconcileError> {
    let (kind, value) = parts(&credentials.auth);
    let url = gateway.spec.url.as_str();
    let mut wanted = match hello.credential {
        Credential::Shared => {
            vec![(keys::LAST_GOOD_KEY, value), (keys::LAST_GOOD_KIND_KEY, kind), (keys::LAST_GOOD_URL_KEY, url)]
        }
        Credential::Device | Credential::Previous => Vec::new(),
    };
    if let Some(issued) = &hello.device_token {
        wanted.push((keys::DEVICE_TOKEN_KEY, issued.expose_secret()));
    }
    if hello.device_token.is_some() || hello.credential == Credential::Device {
        wanted.push((keys::DEVICE_TOKEN_URL_KEY, url));
    }
    let pem = match &credentials.trust {
        Trust::Platform | Trust::Unchecked => None,
        Trust::Pem(pem) => Some(pem),
        Trust::Pinned { pem, .. } => pem.as_ref(),
    };
    let pem = pem.and_then(|pem| std::str::from_utf8(pem).ok());
    wanted.extend(pem.map(|pem| (keys::LAST_GOOD_CA_KEY, pem)));
    let secret = &credentials.device.secret;
    let mut data = secret.data.clone().unwrap_or_default();
    for (key, value) in wanted {
        data.insert(key.to_owned(), ByteString(value.as_bytes().to_vec()));
    }
    if secret.data.as_ref() == Some(&data) {
        return Ok(());
    }
    store.replace_secret(&Secret { data: Some(data), ..secret.clone() }).await?;
    Ok(())
}

/// The AgentGateway that releases a device Secret.
#[derive(Clone, Copy, Debug)]
pub struct SecretHolder<'a> {
    /// The namespace of the AgentGateway.
    pub namespace: &'a str,
    /// Its uid, if it is known.
    pub uid: Option<&'a str>,
}

impl<'a> SecretHolder<'a> {
    /// This AgentGateway.
    #[must_use]
    pub fn of(gateway: &'a AgentGateway) -> Self {
        let meta = &gateway.metadata;
        Self { namespace: meta.namespace.as_deref().unwrap_or_default(), uid: meta.uid.as_deref() }
    }
}

/// Whether another AgentGateway names a device Secret. An unreadable AgentGateway counts with the default name.
fn is_used_by_another(store: &KubeStore, holder: SecretHolder<'_>, name: &str) -> bool {
    let another = |meta: &ObjectMeta| {
        meta.namespace.as_deref().unwrap_or_default() == holder.namespace && meta.uid.as_deref() != holder.uid
    };
    let named = |gateway: &AgentGateway| another(&gateway.metadata) && gateway.device_secrets().contains(name);
    let unread = |meta: &ObjectMeta| {
        another(meta) && AgentGateway::default_device_secret(meta.name.as_deref().unwrap_or_default()) == name
    };
    let of_secret = GatewayIndex::DeviceSecret(ObjectKey::new(holder.namespace, name));
    store.gateways_by(&of_secret).iter().any(|gateway| named(gateway)) || store.unreadable_gateways().iter().any(unread)
}

/// Releases a device Secret: removes the finalizer, and deletes the Secret if this AgentGateway owns it.
///
/// # Guarantees
/// The finalizer is removed even without an owner, so that the namespace can be deleted. A Secret that another AgentGateway owns or
/// names stays unchanged.
///
/// # Errors
/// The request to Kubernetes that failed.
pub async fn discard(store: &KubeStore, holder: SecretHolder<'_>, name: &str) -> Result<(), ReconcileError> {
    let key = ObjectKey::new(holder.namespace, name);
    if is_used_by_another(store, holder, name) {
        return Ok(());
    }
    let Some(mut secret) = store.secret(&key).await? else { return Ok(()) };
    let owner = ownership::owner(store, &secret.metadata, holder.uid);
    if owner == Owner::Other {
        return Ok(());
    }
    if ownership::has_finalizer(&secret.metadata, keys::CREDENTIALS_FINALIZER) {
        secret.metadata.finalizers.get_or_insert_default().retain(|f| f != keys::CREDENTIALS_FINALIZER);
        secret = store.replace_secret(&secret).await?;
        info!(secret = %key, "released the device Secret of a gateway");
    }
    match owner {
        Owner::This => Ok(store.delete_secret(&secret).await?),
        Owner::Absent | Owner::Other => Ok(()),
    }
}
