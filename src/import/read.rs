//! Reads a gateway, and tells meanwhile on standard error what is in the way and what helps.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use url::Url;

use crate::import::Failure;
use crate::openclaw::model::{ConnectionState, Inventory, ReadFailure, Refusal, RefusalKind};
use crate::openclaw::{ConnectionSettings, Dial, GatewayClient};

/// Reads roster and config.
///
/// # Errors
/// The gateway refuses this client, or nothing was read within the limit; with what was in the way.
pub(super) async fn inventory(
    settings: ConnectionSettings,
    dial: Arc<dyn Dial>,
    limit: Duration,
) -> Result<Arc<Inventory>, Failure> {
    let (url, identity) = (settings.url.clone(), Arc::clone(&settings.device_key));
    let gateway = GatewayClient::open(settings, dial, Arc::new(()));
    let (mut link, mut inventory, mut unread) = (gateway.connection(), gateway.inventory(), gateway.read_failure());
    let end = Instant::now() + limit;
    let mut told = String::new();
    let mut asked = false;
    let read = loop {
        if let Some(known) = inventory.borrow_and_update().clone() {
            break Ok(known);
        }
        let state = link.borrow_and_update().clone();
        let news = match &state {
            ConnectionState::Connecting => String::new(),
            ConnectionState::Up(_) => unread.borrow_and_update().as_deref().map(unreadable).unwrap_or_default(),
            ConnectionState::Down { error, .. } => format!("{url} cannot be reached: {error}; trying again"),
            ConnectionState::Refused(refusal) => {
                asked |= matches!(refusal.kind, RefusalKind::PairingRequired(_));
                refused(&url, refusal, identity.device_id())?
            }
        };
        if !news.is_empty() && news != told {
            eprintln!("{news}");
            told = news;
        }
        // Each branch is cancel-safe: watches and a timer.
        tokio::select! {
            biased;
            changed = inventory.changed() => changed?,
            changed = link.changed() => changed?,
            changed = unread.changed() => changed?,
            () = tokio::time::sleep_until(end) => break Err(late(&url, limit, &told)),
        }
    };
    if asked && matches!(*link.borrow(), ConnectionState::Up(_)) {
        let id = identity.device_id();
        eprintln!("this device is of no more use; run this where the gateway runs: openclaw devices remove {id}");
    }
    Ok(read?)
}

fn unreadable(unread: &ReadFailure) -> String {
    format!("the gateway's config and roster cannot be read: {} ({}); trying again", unread.message, unread.code)
}

fn late(url: &Url, limit: Duration, told: &str) -> String {
    let last = if told.is_empty() { String::new() } else { format!("; the last that was seen: {told}") };
    format!("--gateway {url}: there was no answer within {} s; see --timeout{last}", limit.as_secs())
}

/// What somebody can do about a refusal while this waits.
///
/// # Errors
/// The refusal, where waiting does not help, and what does.
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
            "it takes another form of connect; use a gateway version that Muster works with".to_owned()
        }
        RefusalKind::RateLimited { retry_after: Some(time) } => {
            format!("check the credential and run this again in {} s", time.as_secs())
        }
        RefusalKind::RateLimited { retry_after: None } => {
            "check the credential and run this again in some minutes".to_owned()
        }
        RefusalKind::DeviceRejected => "run this again, which makes a new device".to_owned(),
        RefusalKind::Other => "see the gateway's log".to_owned(),
    };
    Err(format!("{url} refused: {} ({}); {advice}", refusal.message, refusal.code))
}

#[cfg(test)]
mod tests {
    use std::io;

    use futures::future::BoxFuture;
    use muster_simulator::{Fault, Profile, Simulator};

    use super::*;
    use crate::openclaw::model::{PairingRequest, PairingRequestId};
    use crate::openclaw::{Auth, ByteStream, DeviceKey, Trust};

    #[derive(Debug)]
    struct One(Simulator);

    impl Dial for One {
        fn dial<'a>(&'a self, _: &'a Url, _: &'a Trust) -> BoxFuture<'a, io::Result<Box<dyn ByteStream>>> {
            let simulator = self.0.clone();
            Box::pin(async move { Ok(Box::new(simulator.connect()?) as Box<dyn ByteStream>) })
        }
    }

    /// What reading a simulated gateway ends in.
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
        inventory(settings, Arc::new(One(simulator.clone())), Duration::from_mins(2)).await.map_err(|e| e.to_string())
    }

    fn simulator() -> Simulator {
        Simulator::new(Profile::v2026_9_6().with_token("secret"))
    }

    #[tokio::test(start_paused = true)]
    async fn a_gateway_is_read_although_it_does_not_answer_at_first() {
        let simulator = simulator();
        simulator.inject(Fault::on("config.get").error("UNAVAILABLE", "not now", true));
        assert!(read(&simulator).await.unwrap().agents.contains_key("main"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_roster_that_cannot_be_read_is_told_with_what_the_gateway_answered() {
        let simulator = simulator();
        let broken = Fault::on("config.get").error("INVALID_REQUEST", "the config is broken", false);
        simulator.inject(broken.lasting(Duration::from_hours(1)));
        let wanted = "--gateway ws://gateway/: there was no answer within 120 s; see --timeout; the last that was seen: \
                      the gateway's config and roster cannot be read: the config is broken (INVALID_REQUEST); trying again";
        assert_eq!(read(&simulator).await.unwrap_err(), wanted);
    }

    #[tokio::test(start_paused = true)]
    async fn a_gateway_that_is_away_is_told_with_what_is_in_the_way() {
        let simulator = simulator();
        simulator.lose_host();
        let said = read(&simulator).await.unwrap_err();
        assert!(said.contains("ws://gateway/ cannot be reached: "), "{said}");
    }

    #[test]
    fn each_refusal_says_what_to_do() {
        let missing = || ["x.y".to_owned()].into();
        let said = |kind| {
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
            let error = said(kind).unwrap_err();
            assert!(error.starts_with("ws://gateway/ refused: no (CODE); ") && error.contains(advice), "{error}");
        }
        let request = PairingRequest { id: PairingRequestId::parse("r1"), ..PairingRequest::default() };
        let news = said(RefusalKind::PairingRequired(request)).unwrap();
        assert_eq!(news, "run this where the gateway runs: openclaw devices approve r1");
        let news = said(RefusalKind::PairingRequired(PairingRequest::default())).unwrap();
        assert!(news.contains("openclaw devices list") && news.contains("device d1"), "{news}");
    }
}
