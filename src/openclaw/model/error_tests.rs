use super::*;

fn gateway_error(code: &str, message: &str) -> CallError {
    CallError::Gateway(Box::new(ErrorShape { code: code.into(), message: message.into(), ..ErrorShape::default() }))
}

#[test]
fn an_unknown_agent_is_recognised_on_all_versions() {
    assert!(gateway_error("INVALID_REQUEST", "agent \"mc-1\" not found").is_not_found());
    assert!(gateway_error("INVALID_REQUEST", "unknown agent id \"mc-1\"").is_not_found());
    assert!(!gateway_error("INVALID_REQUEST", "agent \"mc-1\" already exists").is_not_found());
}

#[test]
fn an_unsafe_file_is_recognised_on_all_versions_and_is_not_transient() {
    for words in ["unsafe workspace file \"SOUL.md\"", "unsafe workspace file \"SOUL.md\" (hardlinked path)"] {
        let error = gateway_error("INVALID_REQUEST", words);
        assert!(error.is_unsafe_file() && !error.is_transient(), "{words}");
    }
    assert!(!gateway_error("INVALID_REQUEST", "unsupported file \"SOUL.md\"").is_unsafe_file());
}

#[test]
fn a_config_write_that_met_another_change_is_sent_again() {
    for words in [
        "config changed since last load; re-run config.get and retry",
        "config base hash required; re-run config.get and retry",
        "config base hash required for agents.defaults; re-run config.get and retry with baseHash",
        "config base hash unavailable; re-run config.get and retry",
        "active config environment changed while preparing write; re-run config.get and retry",
        "included config changed while preparing write; re-run config.get and retry",
        "included config disappeared since last load; re-run config.get and retry",
        "config path changed since last load",
        "included config target changed since last load",
    ] {
        let error = gateway_error("INVALID_REQUEST", words);
        assert!(error.is_stale_config() && error.is_transient(), "{words}");
        assert_eq!(error.outcome(), CallOutcome::NotApplied);
    }
    assert!(!gateway_error("INVALID_REQUEST", "invalid config: agents.defaults: changed").is_stale_config());
}

#[test]
fn a_rejected_config_write_changed_nothing_and_is_rejected_again() {
    let text = "Error: Config write rejected: /h/.openclaw/openclaw.json (size-drop:1160->480). Rejected payload saved to \
                /h/.openclaw/openclaw.json.rejected.2026-11-29T21-37-31-286Z.: code=CONFIG_WRITE_REJECTED";
    let error = gateway_error("UNAVAILABLE", text);
    assert!(error.is_size_drop() && !error.is_transient());
    assert_eq!(error.outcome(), CallOutcome::NotApplied);
    let other = gateway_error("UNAVAILABLE", "Error: Config write rejected: /h/openclaw.json (gateway-mode-removed).");
    assert!(!other.is_size_drop() && !other.is_transient());
}

#[test]
fn a_request_in_a_restart_has_an_unknown_outcome_and_a_rate_limited_request_has_no_effect() {
    assert_eq!(
        gateway_error("UNAVAILABLE", "agents.create unavailable during gateway restart").outcome(),
        CallOutcome::Unknown
    );
    assert_eq!(
        gateway_error("UNAVAILABLE", "rate limit exceeded for config.patch; retry after 9s").outcome(),
        CallOutcome::NotApplied
    );
    assert_eq!(CallError::Interrupted.outcome(), CallOutcome::Unknown);
    assert_eq!(gateway_error("INVALID_REQUEST", "x").outcome(), CallOutcome::NotApplied);
}

#[test]
fn a_lock_that_nobody_releases_keeps_the_gateway_from_its_config_and_not_from_other_files() {
    let locked = |file: &str| {
        let message = format!("Error: file lock timeout for /home/o/.openclaw/{file}: code=file_lock_timeout");
        gateway_error("UNAVAILABLE", &message)
    };
    assert!(locked("openclaw.json").is_unwritable_config(false));
    assert!(locked("openclaw.json").is_transient(), "the lock may be released");
    assert!(!locked("cron.json").is_unwritable_config(false) && !locked("cron.json").is_unwritable_config(true));
}
