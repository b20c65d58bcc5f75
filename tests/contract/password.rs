//! Real gateways with a password instead of a token.

use std::sync::Arc;

use libtest_mimic::Trial;
use muster::openclaw::Auth;
use muster::openclaw::model::RefusalKind;
use muster_harness::{Failure, OpenClaw, ScriptedModel};
use tokio::runtime::Runtime;

use crate::subject::{Subject, connect_refusal};

const PASSWORD: &str = "the-gateways-password";

pub(crate) fn trials(runtime: &Arc<Runtime>) -> Vec<Trial> {
    let trial = |version: &'static str| {
        let (runtime, name) = (Arc::clone(runtime), "the_right_password_connects_and_a_wrong_one_is_bad_credentials");
        Trial::test(format!("OpenClaw {version}, by password: {name}"), move || {
            runtime.block_on(check_password(version)).map_err(|error| super::failed(&error))
        })
    };
    [super::RESTARTING, super::NEWEST].map(trial).into()
}

async fn check_password(version: &'static str) -> Result<(), Failure> {
    let model = ScriptedModel::start().await?;
    let gateway = OpenClaw::start_version_with_password(version, model.url(), PASSWORD).await?;
    for wrong in [Auth::Password("another".into()), Auth::Token("another".into())] {
        assert_eq!(connect_refusal(&gateway, wrong).await?, RefusalKind::BadCredentials);
    }
    let subject = Subject::real_with_auth(&gateway, Auth::Password(PASSWORD.into())).await?;
    subject.agent().await?;
    Ok(())
}
