//! Renders the soul of a directory into the files of an agent. Pure.

use std::collections::BTreeSet;

use url::Url;

use super::desired::{Delivery, DesiredFile};
use crate::api::soul::{SoulState, SoulStatus};
use crate::core::error::ReconcileError;
use crate::templates;

/// The soul of a directory for the role of an agent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum RoleSoul {
    /// There is no directory, or the agent has no role.
    #[default]
    Off,
    /// The directory has no soul for this role.
    NoMatch(String),
    /// The directory has not answered since the operator's start.
    Unknown {
        /// The role.
        role: String,
        /// The URL prefix of the pages of its souls.
        pages: Url,
    },
    /// The directory has a soul for this role.
    Found {
        /// The role.
        role: String,
        /// The page of the soul.
        source_url: String,
        /// The sanitized text of the soul.
        markdown: String,
        /// SHA-256 of the soul.
        sha256: String,
    },
}

/// The files of an agent and the status of its soul.
///
/// # Guarantees
/// A soul that makes a file too long, or a template fail, is left out. While the directory does not answer, a file that was written
/// with a soul of the same directory for this role stays unchanged.
///
/// # Errors
/// The errors of `render`, which renders all files with a soul.
pub fn files(
    soul: &RoleSoul,
    old: Option<&SoulStatus>,
    render: impl Fn(&templates::SoulText) -> Result<Vec<DesiredFile>, ReconcileError>,
) -> Result<(Vec<DesiredFile>, Option<SoulStatus>), ReconcileError> {
    let without = || render(&templates::SoulText::default());
    let status = |role: &str, state| SoulStatus { role: role.to_owned(), state, source_url: None, sha256: None };
    match soul {
        RoleSoul::Off => Ok((without()?, None)),
        RoleSoul::NoMatch(role) => Ok((without()?, Some(status(role, SoulState::NoMatch)))),
        RoleSoul::Unknown { role, pages } => match old.filter(|old| is_from_directory(old, role, pages)) {
            None => Ok((without()?, Some(status(role, SoulState::Unavailable)))),
            Some(old) => {
                let any = templates::SoulText { markdown: "soul".into(), source_url: "url".into() };
                // A template that fails with this placeholder rendered the written soul.
                let with = render(&any).unwrap_or_default();
                Ok((hold_soul_files(without()?, &with), Some(old.clone())))
            }
        },
        RoleSoul::Found { role, source_url, markdown, sha256 } => {
            let soul_text = templates::SoulText { markdown: markdown.clone(), source_url: source_url.clone() };
            let status = |state| {
                let (source_url, sha256) = (Some(source_url.clone()), Some(sha256.clone()));
                Some(SoulStatus { role: role.clone(), state, source_url, sha256 })
            };
            let with = render(&soul_text);
            if let Ok(files) = &with
                && too_large(files).is_empty()
            {
                return Ok((with?, status(SoulState::Used)));
            }
            let without = without()?;
            match with {
                Ok(with) if too_large(&with) == too_large(&without) => Ok((with, status(SoulState::Used))),
                Ok(_) | Err(_) => Ok((without, status(SoulState::TooLarge))),
            }
        }
    }
}

/// Whether the soul that was used last is from this directory and for this role.
fn is_from_directory(old: &SoulStatus, role: &str, pages: &Url) -> bool {
    let of_directory = old.source_url.as_deref().is_some_and(|url| url.starts_with(pages.as_str()));
    old.state == SoulState::Used && old.role == role && of_directory
}

fn too_large(files: &[DesiredFile]) -> BTreeSet<&str> {
    let too_large = files.iter().filter(|file| matches!(file.delivery, Delivery::TooLarge { .. }));
    too_large.map(|file| file.name.as_str()).collect()
}

/// Holds the files that a soul changes, so that they stay unchanged on the gateway. A file with the token is written: a rotated token
/// has to reach the agent.
fn hold_soul_files(without: Vec<DesiredFile>, with: &[DesiredFile]) -> Vec<DesiredFile> {
    let other = |file: &DesiredFile, sha256: &str| {
        with.iter().find(|with| with.name == file.name).is_some_and(|with| match &with.delivery {
            Delivery::Write { content, .. } => content.sha256 != sha256,
            Delivery::TooLarge { .. } => true,
            Delivery::Held { .. } | Delivery::Folded { .. } | Delivery::Unmanaged => false,
        })
    };
    let hold = |mut file: DesiredFile| {
        if let Delivery::Write { policy, drift, content } = &file.delivery
            && other(&file, &content.sha256)
            && !file.carries_token
        {
            file.delivery = Delivery::Held { policy: *policy, drift: *drift, content: content.clone() };
        }
        file
    };
    without.into_iter().map(hold).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::agent::{DriftPolicy, FilePolicy};
    use crate::core::agent::desired::RenderedText;
    use crate::openclaw::model::FileLimit;

    fn found(markdown: &str) -> RoleSoul {
        let (role, source_url, sha256) = ("sre".into(), "http://d/souls/a/sre".into(), "s1".into());
        RoleSoul::Found { role, source_url, markdown: markdown.into(), sha256 }
    }

    /// SOUL.md with the soul and a limit of 10 characters, and a file with the token.
    fn rendered(soul: &templates::SoulText) -> Vec<DesiredFile> {
        let write = |text: &str| Delivery::Write {
            drift: DriftPolicy::Correct,
            policy: FilePolicy::Always,
            content: RenderedText::new(text.into(), format!("sha-{text}")),
        };
        let text = format!("I:{}", soul.markdown);
        let delivery = if text.len() > 10 {
            Delivery::TooLarge { units: text.len(), limit: FileLimit::of(10, "") }
        } else {
            write(&text)
        };
        let token = DesiredFile {
            name: "T.md".into(),
            carries_token: true,
            is_adopted: false,
            delivery: write(&format!("token {}", soul.markdown)),
        };
        vec![DesiredFile { name: "SOUL.md".into(), carries_token: false, is_adopted: false, delivery }, token]
    }

    fn texts(files: &[DesiredFile]) -> Vec<String> {
        let text = |file: &DesiredFile| match &file.delivery {
            Delivery::Write { content, .. } => content.expose().to_owned(),
            Delivery::Held { .. } => "held".into(),
            other => format!("{other:?}"),
        };
        files.iter().map(text).collect()
    }

    #[test]
    fn a_soul_within_the_limit_is_used_and_a_longer_soul_is_left_out() {
        let (fits, status) = files(&found("short"), None, |soul| Ok(rendered(soul))).unwrap();
        assert_eq!((texts(&fits)[0].as_str(), status.unwrap().state), ("I:short", SoulState::Used));
        let (long, status) = files(&found("far too long"), None, |soul| Ok(rendered(soul))).unwrap();
        assert_eq!((texts(&long)[0].as_str(), status.unwrap().state), ("I:", SoulState::TooLarge));
    }

    #[test]
    fn a_template_that_fails_only_with_the_soul_is_rendered_without_it() {
        let picky = |soul: &templates::SoulText| match soul.markdown.as_str() {
            "" => Ok(rendered(soul)),
            _ => Err(ReconcileError::permanent(crate::api::Reason::TemplateError, "too much")),
        };
        let (files, status) = files(&found("x"), None, picky).unwrap();
        assert_eq!((texts(&files)[0].as_str(), status.unwrap().state), ("I:", SoulState::TooLarge));
    }

    #[test]
    fn an_unknown_soul_holds_its_files_except_files_with_the_token() {
        let (_, old) = files(&found("short"), None, |soul| Ok(rendered(soul))).unwrap();
        let unknown = |role: &str, pages: &str| RoleSoul::Unknown { role: role.into(), pages: pages.parse().unwrap() };
        let (held, status) =
            files(&unknown("sre", "http://d/souls/"), old.as_ref(), |soul| Ok(rendered(soul))).unwrap();
        assert_eq!(texts(&held), ["held", "token "]);
        assert_eq!(status, old);
        for other in [unknown("dev", "http://d/souls/"), unknown("sre", "http://e/souls/")] {
            let (files, status) = files(&other, old.as_ref(), |soul| Ok(rendered(soul))).unwrap();
            assert_eq!((texts(&files)[0].as_str(), status.unwrap().state), ("I:", SoulState::Unavailable));
        }
    }

    #[test]
    fn without_a_directory_there_is_no_soul_status() {
        let (files, status) = files(&RoleSoul::Off, None, |soul| Ok(rendered(soul))).unwrap();
        assert_eq!((texts(&files)[0].as_str(), status), ("I:", None));
    }
}
