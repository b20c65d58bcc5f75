use super::*;

fn refused_condition(kind: RefusalKind, of: C) -> ConditionUpdate {
    let refusal = Refusal { code: "CODE".into(), message: "gateway text".into(), kind };
    refused("ws://gw:18789", None, &refusal, None).into_iter().find(|condition| condition.kind == of).unwrap()
}

#[test]
fn a_failed_tls_connection_names_the_fields_of_the_trusted_certificate() {
    let said = |url| Address { url, unchecked: false }.down(DownCause::Unreachable, "error text").message;
    assert!(said("wss://gw").contains("error text; check spec.url, spec.tls (caSecretRef, fingerprint), the network"));
    assert!(!said("ws://gw").contains("spec.tls"));
}

#[test]
fn a_met_bound_and_a_forbidden_address_have_reasons_of_their_own() {
    let down = |cause| Address { url: "ws://gw", unchecked: false }.down(cause, "error text");
    for (cause, reason) in [
        (DownCause::Misbehaves, Reason::GatewayMisbehaves),
        (DownCause::Forbidden, Reason::AddressNotAllowed),
        (DownCause::Unreachable, Reason::Unreachable),
    ] {
        let condition = down(cause);
        assert_eq!(
            (condition.kind, condition.status, condition.reason),
            (C::Reachable, ConditionStatus::False, reason)
        );
        assert!(condition.message.contains("ws://gw: error text"), "{}", condition.message);
    }
}

#[test]
fn missing_scopes_are_named_with_the_next_step() {
    let condition = refused_condition(
        RefusalKind::ScopesMissing { missing: ["operator.admin".to_owned()].into() },
        C::Authenticated,
    );
    assert_eq!((condition.status, condition.reason), (ConditionStatus::False, Reason::ScopesMissing));
    for words in ["gateway text", "CODE", "did not grant operator.admin", "approve this device"] {
        assert!(condition.message.contains(words), "{}", condition.message);
    }
}

#[test]
fn a_rejected_device_is_reported_with_the_next_step_and_the_gateway_is_reachable() {
    let condition = refused_condition(RefusalKind::DeviceRejected, C::Paired);
    assert_eq!((condition.status, condition.reason), (ConditionStatus::False, Reason::DeviceRejected));
    assert!(condition.message.contains("spec.device.secretName"), "{}", condition.message);
    assert_eq!(refused_condition(RefusalKind::DeviceRejected, C::Reachable).status, ConditionStatus::True);
}
