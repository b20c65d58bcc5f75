//! Opens a connection, reads the gateway's roster and config, and reports obstacles with their remedies.

use std::sync::Arc;
use std::time::Duration;

use url::Url;

use super::observe::observe;
use crate::openclaw::model::{ConnectionState, Inventory, ReadFailure, Refusal, RefusalKind};
use crate::openclaw::{ConnectionSettings, Dial, GatewayClient};

/// A gateway that has answered.
#[derive(Debug)]
pub struct OpenGateway {
    /// The client. The connection ends with it.
    pub client: GatewayClient,
    /// Its roster and config.
    pub inventory: Arc<Inventory>,
}

/// Opens the connection, and reads roster and config. `report` gets a sentence about each obstacle on the way.
///
/// # Errors
/// The gateway refused this client, or the read did not succeed within `limit`. The error names the last obstacle.
pub(crate) async fn open(
    settings: ConnectionSettings,
    dial: Arc<dyn Dial>,
    limit: Duration,
    report: &mut dyn FnMut(&str),
) -> Result<OpenGateway, String> {
    let (url, device_key) = (settings.url.clone(), Arc::clone(&settings.device_key));
    let client = GatewayClient::open(settings, dial, Arc::new(()));
    let mut reported = String::new();
    let mut was_unpaired = false;
    let read = observe(&client, limit, |view| {
        if let Some(known) = &view.inventory {
            return Some(Ok(Arc::clone(known)));
        }
        let obstacle = match &view.connection {
            ConnectionState::Connecting => String::new(),
            ConnectionState::Up(_) => view.read_failure.as_deref().map(unreadable).unwrap_or_default(),
            ConnectionState::Down { error, .. } => format!("{url} cannot be reached: {error}; trying again"),
            ConnectionState::Refused(refusal) => {
                was_unpaired |= matches!(refusal.kind, RefusalKind::PairingRequired(_));
                match refused(&url, refusal, device_key.device_id()) {
                    Ok(advice) => advice,
                    Err(error) => return Some(Err(error)),
                }
            }
        };
        if !obstacle.is_empty() && obstacle != reported {
            report(&obstacle);
            reported = obstacle;
        }
        None
    });
    let read = read.await.unwrap_or_else(|| Err(timed_out(&url, limit, &reported)));
    if was_unpaired && matches!(*client.connection().borrow(), ConnectionState::Up(_)) {
        report(&unused_device(device_key.device_id()));
    }
    Ok(OpenGateway { client, inventory: read? })
}

/// What a person may do about a device that was approved for one run of a command.
pub(crate) fn unused_device(device_id: &str) -> String {
    format!("this device is no longer used; run this where the gateway runs: openclaw devices remove {device_id}")
}

fn unreadable(failure: &ReadFailure) -> String {
    format!("the gateway's config and roster cannot be read: {} ({}); trying again", failure.message, failure.code)
}

fn timed_out(url: &Url, limit: Duration, reported: &str) -> String {
    let last = if reported.is_empty() { String::new() } else { format!("; the last report: {reported}") };
    format!("{url}: there was no answer within {} s; see --timeout{last}", limit.as_secs())
}

/// The remedy for a refusal that a person can resolve while the command waits.
///
/// # Errors
/// Any other refusal, with its remedy.
fn refused(url: &Url, refusal: &Refusal, device_id: &str) -> Result<String, String> {
    let listed = |words: &std::collections::BTreeSet<String>| words.iter().cloned().collect::<Vec<_>>().join(", ");
    let advice = match &refusal.kind {
        RefusalKind::PairingRequired(request) => return Ok(request.advice(device_id)),
        RefusalKind::BadCredentials => {
            "give the gateway's own token or password, with --token-file, --password-file or MUSTER_GATEWAY_TOKEN"
                .to_owned()
        }
        RefusalKind::ScopesMissing { missing } => format!(
            "it did not grant {}; give a credential that carries it, or run this where the gateway runs",
            listed(missing)
        ),
        RefusalKind::MethodsMissing { missing } => {
            format!("it does not offer {}; use a gateway version that does", listed(missing))
        }
        RefusalKind::Protocol { .. } => "Muster speaks protocol 3 and 4; use a gateway version that does".to_owned(),
        RefusalKind::Incompatible => {
            "it accepts another form of connect; use a gateway version that Muster supports".to_owned()
        }
        RefusalKind::RateLimited { retry_after: Some(time) } => {
            format!("check the credential and run this again in {} s", time.as_secs())
        }
        RefusalKind::RateLimited { retry_after: None } => {
            "check the credential and run this again in some minutes".to_owned()
        }
        RefusalKind::DeviceRejected => "run this again with a new device, which each run makes".to_owned(),
        RefusalKind::Other => "see the gateway's log".to_owned(),
    };
    Err(format!("{url} refused: {} ({}); {advice}", refusal.message, refusal.code))
}

#[cfg(test)]
mod tests {

    use futures::future::BoxFuture;
    use muster_simulator::{Fault, Profile, Simulator};

    use super::*;
    use crate::openclaw::model::{PairingRequest, PairingRequestId};
    use crate::openclaw::{Auth, DeviceKey, DialError, DialedStream, Trust};

    /// Dials a simulator.
    #[derive(Debug)]
    struct SimulatorDial(Simulator);

    impl Dial for SimulatorDial {
        fn dial<'a>(&'a self, _: &'a Url, _: &'a Trust) -> BoxFuture<'a, Result<DialedStream, DialError>> {
            let simulator = self.0.clone();
            Box::pin(async move { Ok(DialedStream::new(simulator.connect()?)) })
        }
    }

    /// Reads a simulated gateway.
    async fn read(simulator: &Simulator) -> Result<Arc<Inventory>, String> {
        let settings = ConnectionSettings {
            url: "ws://gateway".parse().unwrap(),
            auth: Auth::Token("secret".into()),
            device_key: Arc::new(DeviceKey::generate().unwrap()),
            device_token: None,
            previous: None,
            trust: Trust::Platform,
            max_in_flight: 8,
            resync: Duration::from_hours(1),
        };
        let dial = Arc::new(SimulatorDial(simulator.clone()));
        open(settings, dial, Duration::from_mins(2), &mut |_| {}).await.map(|gateway| gateway.inventory)
    }

    fn simulator() -> Simulator {
        Simulator::new(Profile::v2026_9_6().with_token("secret"))
    }

    #[tokio::test(start_paused = true)]
    async fn a_gateway_is_read_after_a_transient_error() {
        let simulator = simulator();
        simulator.inject(Fault::on("config.get").error("UNAVAILABLE", "not now", true));
        assert!(read(&simulator).await.unwrap().agents.contains_key("main"));
    }

    #[tokio::test(start_paused = true)]
    async fn an_unreadable_roster_is_reported_with_the_gateways_answer() {
        let simulator = simulator();
        let broken = Fault::on("config.get").error("INVALID_REQUEST", "the config is broken", false);
        simulator.inject(broken.lasting(Duration::from_hours(1)));
        let expected = "ws://gateway/: there was no answer within 120 s; see --timeout; the last report: \
                      the gateway's config and roster cannot be read: the config is broken (INVALID_REQUEST); trying again";
        assert_eq!(read(&simulator).await.unwrap_err(), expected);
    }

    #[tokio::test(start_paused = true)]
    async fn an_unreachable_gateway_is_reported_with_the_cause() {
        let simulator = simulator();
        simulator.lose_host();
        let error = read(&simulator).await.unwrap_err();
        assert!(error.contains("ws://gateway/ cannot be reached: "), "{error}");
    }

    #[test]
    fn each_refusal_is_reported_with_its_remedy() {
        let missing = || ["x.y".to_owned()].into();
        let report = |kind| {
            let refusal = Refusal { code: "CODE".into(), message: "no".into(), kind };
            refused(&"ws://gateway".parse().unwrap(), &refusal, "d1")
        };
        for (kind, advice) in [
            (RefusalKind::BadCredentials, "--token-file"),
            (RefusalKind::ScopesMissing { missing: missing() }, "it did not grant x.y; give"),
            (RefusalKind::MethodsMissing { missing: missing() }, "it does not offer x.y; use"),
            (RefusalKind::Protocol { expected: Some(9) }, "protocol 3 and 4; use"),
            (RefusalKind::RateLimited { retry_after: Some(Duration::from_mins(5)) }, "again in 300 s"),
            (RefusalKind::RateLimited { retry_after: None }, "again in some minutes"),
            (RefusalKind::Incompatible, "another form of connect; use"),
            (RefusalKind::DeviceRejected, "run this again"),
            (RefusalKind::Other, "see the gateway's log"),
        ] {
            let error = report(kind).unwrap_err();
            assert!(error.starts_with("ws://gateway/ refused: no (CODE); ") && error.contains(advice), "{error}");
        }
        let request = PairingRequest { id: PairingRequestId::parse("r1"), ..PairingRequest::default() };
        let advice = report(RefusalKind::PairingRequired(request)).unwrap();
        assert_eq!(advice, "run this where the gateway runs: openclaw devices approve r1");
        let advice = report(RefusalKind::PairingRequired(PairingRequest::default())).unwrap();
        assert!(advice.contains("openclaw devices list") && advice.contains("device d1"), "{advice}");
    }
}
