//! The only command of an agent's files, and values that try to become another command.

use secrecy::SecretString;

use super::file_name::FileName;
use super::test_support::{HOSTILE, ROLES, TOKEN, file, files, folded, variables};
use crate::api::agent::Role;

/// The contents of the code blocks of a text.
fn code_blocks(text: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut open: Option<String> = None;
    for line in text.lines() {
        match (line.trim_start().starts_with("```"), open.take()) {
            (true, None) => open = Some(String::new()),
            (true, Some(block)) => blocks.push(block),
            (false, Some(block)) => open = Some(block + line + "\n"),
            (false, None) => {}
        }
    }
    assert!(open.is_none(), "a code block is left open");
    blocks
}

/// The words of a command by the rules of a shell, for the syntax of the templates alone.
fn shell_words(command: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = command.trim_end().chars();
    while let Some(c) = chars.next() {
        match c {
            '\'' | '"' => {
                let inside = word.get_or_insert_default();
                loop {
                    match chars.next().expect("a quote is closed") {
                        end if end == c => break,
                        other => inside.push(other),
                    }
                }
            }
            '\\' => match chars.next() {
                Some('\n') => words.extend(word.take()),
                Some(other) => word.get_or_insert_default().push(other),
                None => panic!("a backslash ends the command"),
            },
            ' ' => words.extend(word.take()),
            '\n' => panic!("one command only: {command}"),
            other => {
                assert!(!"$`;&|<>(){}!#*?".contains(other), "{other} is not quoted in {command}");
                word.get_or_insert_default().push(other);
            }
        }
    }
    words.extend(word);
    words
}

/// The only heartbeat command in the files.
fn heartbeat_command(files: &[(FileName, String)]) -> Option<Vec<String>> {
    let blocks: Vec<String> = files.iter().flat_map(|(_, text)| code_blocks(text)).collect();
    assert!(blocks.len() <= 1, "{blocks:?}");
    blocks.first().map(|block| shell_words(block))
}

#[test]
fn each_agent_has_exactly_one_heartbeat_command_with_its_own_url() {
    for role in ROLES {
        for text in [None].into_iter().chain(HOSTILE.map(Some)) {
            let variables = variables(role, text);
            for files in [files(role, &variables), folded(role, &variables)] {
                let words = heartbeat_command(&files).unwrap();
                let url =
                    "http://muster.muster-system:8080/api/v1/agents/mc-c91361ef-6d85-439c-82e1-8f388a302e6a/heartbeat";
                let header = format!("X-Agent-Token: {TOKEN}");
                assert_eq!(words[0], "curl");
                assert_eq!(words.last().map(String::as_str), Some(url));
                for word in
                    ["--fail-with-body", "--silent", "--show-error", "--max-time", r#"{"status": "active"}"#, &header]
                {
                    assert!(words.iter().any(|found| found == word), "{word} is not in {words:?}");
                }
            }
        }
    }
}

#[test]
fn a_hostile_url_id_or_token_is_one_word_of_the_command() {
    for hostile in HOSTILE {
        let mut variables = variables(Role::Worker, None);
        for name in ["base_url", "agent_id", "auth_token"] {
            variables.set(name, &format!("x{hostile}"));
        }
        let words = heartbeat_command(&files(Role::Worker, &variables)).unwrap();
        assert_eq!(words.len(), 15, "{words:?}");
        assert!(words.last().is_some_and(|url| url.ends_with("/heartbeat")));
    }
}

#[test]
fn only_the_tools_file_has_the_token() {
    for role in ROLES {
        for (name, text) in files(role, &variables(role, None)) {
            assert_eq!(text.matches(TOKEN).count(), usize::from(name == FileName::TOOLS), "{name}");
        }
    }
}

#[test]
fn without_a_token_the_command_reads_the_mounted_file_or_the_environment() {
    let variables = variables(Role::Worker, None).with_token(&SecretString::from(""));
    let tools = file(Role::Worker, &variables, &FileName::TOOLS);
    let header =
        r#""X-Agent-Token: $(cat '/var/run/secrets/muster/one-token/token' 2>/dev/null || printf %s "$AGENT_TOKEN")""#;
    assert!(code_blocks(&tools)[0].contains(header), "{tools}");
}

#[test]
fn without_a_base_url_the_tools_file_says_that_the_agent_cannot_check_in() {
    for role in ROLES {
        let mut variables = variables(role, None);
        variables.set("base_url", "");
        let files = files(role, &variables);
        assert_eq!(heartbeat_command(&files), None);
        assert!(files.iter().all(|(_, text)| !text.contains(TOKEN)));
        assert!(file(role, &variables, &FileName::TOOLS).contains("cannot check in"));
    }
}

#[test]
fn a_value_cannot_create_a_heading_or_a_marker() {
    for role in ROLES {
        let headings = |files: &[(FileName, String)]| -> Vec<String> {
            let lines = files.iter().flat_map(|(_, text)| text.lines());
            lines.filter(|line| line.starts_with('#') || line.contains("muster:")).map(str::to_owned).collect()
        };
        let ordinary = headings(&folded(role, &variables(role, None)));
        for hostile in &HOSTILE[..5] {
            let hostile = variables(role, Some(hostile));
            let own: Vec<String> =
                headings(&folded(role, &hostile)).into_iter().filter(|line| !line.starts_with("- ")).collect();
            let forged: Vec<_> = own.iter().filter(|line| line.starts_with('#') && !ordinary.contains(line)).collect();
            assert!(forged.is_empty(), "{forged:?}");
            let markers = own.iter().filter(|line| line.starts_with("<!-- muster:")).count();
            assert_eq!(markers, ordinary.iter().filter(|line| line.starts_with("<!-- muster:")).count());
        }
    }
}
