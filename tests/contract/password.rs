//! Real gateways with a password instead of a token.

use libtest_mimic::Trial;
use muster::openclaw::Auth;
use muster::openclaw::model::RefusalKind;
use muster_harness::{Failure, OpenClaw, ScriptedModel};

use crate::run::{Run, long};
use crate::subject::{Subject, connect_refusal};

const PASSWORD: &str = "the-gateways-password";

pub(crate) fn trials(run: &Run) -> Vec<Trial> {
    let trial = |version: &'static str| {
        let name = "the_right_password_connects_and_a_wrong_one_is_bad_credentials";
        run.real(format!("OpenClaw {version}, by password: {name}"), move || check_password(version))
    };
    [trial(super::NEWEST)].into_iter().chain(long([trial(super::RESTARTING)])).collect()
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
