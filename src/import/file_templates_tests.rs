use proptest::prelude::*;

use super::*;
use crate::import::schema;

fn content(text: &str) -> ReadFile {
    ReadFile::Content(FileContent { text: text.to_owned(), ..FileContent::default() })
}

fn made(files: &[(FileName, ReadFile)]) -> FileTemplates {
    let limits = PromptLimits::default();
    let rules = FileRules { limits, entry: None, credential: "the-credential" };
    templates("nova", &files.iter().cloned().collect(), rules)
}

/// The note about a SOUL.md with this text.
fn refusal(file: ReadFile) -> String {
    let made = made(&[(FileName::SOUL, file)]);
    assert!(made.sources.is_empty() && made.kept.is_empty() && made.notes.len() == 1, "{:?}", made.notes);
    made.notes[0].strip_prefix("nova: the text of SOUL.md is left out: ").unwrap().to_owned()
}

#[test]
fn the_text_of_a_file_becomes_a_template_and_muster_keeps_the_file() {
    let text = "# Soul\n\nWrite {{ like_this }}, 👩\u{200d}🚀.\n";
    let made = made(&[(FileName::SOUL, content(text)), (FileName::AGENTS, content(""))]);
    assert_eq!((made.kept.as_slice(), made.notes.len()), (&[FileName::SOUL][..], 0));
    let files = json!([{ "name": "SOUL.md", "policy": "Unmanaged" }, { "name": "USER.md", "policy": "Unmanaged" }]);
    let spec = json!({ "boardRef": { "name": "ops" }, "files": files });
    let mut manifest = json!({ "kind": "Agent", "metadata": { "name": "nova" }, "spec": spec });
    let names = Names { namespace: Some("fleet".into()), gateway: "g".into(), board: "b".into() };
    let config_map = add(&mut manifest, &made, &names).unwrap();
    assert_eq!(config_map["metadata"], json!({ "name": "nova-files", "namespace": "fleet" }));
    assert_eq!(config_map["data"]["SOUL.md"], "# Soul\n\n{% raw %}Write {{ like_this }}, 👩\u{200d}🚀.{% endraw %}\n");
    let spec = &manifest["spec"];
    assert_eq!(spec["templates"]["configMapRef"]["name"], "nova-files");
    assert_eq!(spec["files"][0], json!({ "name": "SOUL.md", "policy": "Always", "drift": "Report" }));
    assert_eq!(spec["files"][1], json!({ "name": "USER.md", "policy": "Unmanaged" }));
    assert_eq!(schema::validation_errors(&manifest), Vec::<String>::new());
}

#[test]
fn a_file_that_does_not_end_in_one_newline_stays_unmanaged_and_its_text_is_kept() {
    for text in ["# Soul", "# Soul\n\n", "# Soul\r\n"] {
        let made = made(&[(FileName::SOUL, content(text))]);
        assert_eq!((made.sources["SOUL.md"].as_str(), made.kept.len()), (text, 0));
        assert!(made.notes[0].starts_with("nova: SOUL.md stays Unmanaged"), "{:?}", made.notes);
    }
}

#[test]
fn texts_that_a_repository_must_not_have_are_left_out_with_their_cause() {
    let token = "X-Agent-Token: uY3kQ9_xTz7Lw0aBcDeFgHiJkLmNoPqRsTuVwXyZ1-2";
    let hash = |text: &str| FileContent { text: text.to_owned(), hash: Some("0".repeat(64)), ..FileContent::default() };
    for (file, expected) in [
        (content(&format!("# Tools\n{token}\n")), "line 2 looks like a secret"),
        (content("log in with the-credential\n"), "the gateway's credential"),
        (content("<!-- muster:begin TOOLS.md -->\n"), "Muster wrote other files into it"),
        (content("\u{1b}[2J\n"), "control characters"),
        (content("one\u{202e}two\n"), "reorder or hide"),
        (content("r\u{fffd}\n"), "not UTF-8"),
        (ReadFile::Content(hash("r\u{fffd}\n")), "not UTF-8"),
        (ReadFile::Long(200_000), "200000 bytes"),
        (ReadFile::Refused("unsafe workspace file".into()), "the gateway refuses it: unsafe workspace file"),
        (content(&"a".repeat(20_001)), "it has 20001 characters, and the gateway passes 20000 on"),
        (content(&"{{ endraw\n".repeat(2001)), "its template is refused: "),
    ] {
        let refusal = refusal(file);
        assert!(refusal.contains(expected), "{expected}: {refusal}");
        assert!(!refusal.contains("the-credential") && !refusal.contains("uY3kQ9"), "{refusal}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn yaml_keeps_each_text(text in "([a-zA-Z#:'\"{}%>|*&!\\- \t]|\r?\n|é|🚀|---\n|\\.\\.\\.\n){0,60}") {
        let made = made(&[(FileName::SOUL, content(&text))]);
        let mut manifest = json!({ "metadata": { "name": "nova" }, "spec": {} });
        let names = Names { namespace: None, gateway: "g".into(), board: "b".into() };
        if let Some(config_map) = add(&mut manifest, &made, &names) {
            let yaml = serde_saphyr::to_string(&config_map).unwrap();
            prop_assert_eq!(serde_saphyr::from_str::<Value>(&yaml).unwrap(), config_map, "{}", yaml);
            prop_assert!(!yaml.lines().any(|line| line.starts_with("---")), "{}", yaml);
        }
    }
}
