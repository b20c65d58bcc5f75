use super::*;

fn agent() -> Agent {
    let mut agent = Agent::default();
    agent.metadata.name = Some("one".into());
    agent.metadata.namespace = Some("fleet".into());
    agent.metadata.uid = Some("u1".into());
    agent
}

fn fresh(value: &SecretString) -> FreshToken<'_> {
    FreshToken { value, request: None }
}

fn written(write: SecretWrite) -> Secret {
    match write {
        SecretWrite::Create(secret) | SecretWrite::Replace(secret) => secret,
    }
}

fn issued(token: &Token) -> &IssuedToken {
    match &token.state {
        TokenState::Issued(issued) => issued,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_issued_token_is_read_back_and_a_rotation_keeps_it_as_the_previous_token() {
    let (agent, url) = (agent(), "http://muster:8080");
    let first = Token::missing().changed(TokenChange::Issue, &agent, url, fresh(&"first".into()));
    assert!(matches!(first, SecretWrite::Create(_)));
    let token = Token::read(written(first), Owner::This, &agent, url);
    assert_eq!((issued(&token).sha256.as_str(), issued(&token).is_current), (sha256_hex("first").as_str(), true));
    let second = token.changed(TokenChange::Rotate, &agent, url, fresh(&"second".into()));
    let token = Token::read(written(second), Owner::This, &agent, url);
    assert_eq!(issued(&token).previous.as_deref(), Some(sha256_hex("first").as_str()));
    let retired = token.changed(TokenChange::Retire, &agent, url, fresh(&"unused".into()));
    let token = Token::read(written(retired), Owner::This, &agent, url);
    assert_eq!(
        (issued(&token).previous.as_deref(), issued(&token).sha256.as_str()),
        (None, sha256_hex("second").as_str())
    );
}

#[test]
fn a_foreign_token_counts_as_tampered_with() {
    let (agent, url) = (agent(), "http://muster:8080");
    let mut secret = written(Token::missing().changed(TokenChange::Issue, &agent, url, fresh(&"first".into())));
    secret.data.get_or_insert_default().insert(keys::TOKEN_KEY.to_owned(), bytes("other"));
    assert_eq!(Token::read(secret.clone(), Owner::This, &agent, url).state, TokenState::Tampered);
    assert_eq!(Token::read(secret, Owner::Other, &agent, url).state, TokenState::Foreign);
}

/// A token of the form that Muster generates.
const TOKEN: &str = "q8ZrT1xYb3LkN0vWc7HdPf5sGjUa2EoMi9RtXyBz4Qw";

/// The Secret of a former Agent, as the present Agent of that name reads it.
fn restored(token: &str) -> Token {
    let mut former = agent();
    former.metadata.uid = Some("former".into());
    let issue = Token::missing().changed(TokenChange::Issue, &former, "http://old", fresh(&token.into()));
    Token::read(written(issue), Owner::Absent, &agent(), "http://muster:8080")
}

#[test]
fn the_token_of_a_former_agent_counts_only_when_its_agent_is_taken_up() {
    let token = restored(TOKEN);
    assert!(token.state == TokenState::Tampered && token.value.is_none() && !token.is_own());
    let token = token.restored();
    assert_eq!((issued(&token).sha256.clone(), issued(&token).is_current), (sha256_hex(TOKEN), false));
    let repaired = written(token.changed(TokenChange::Repair, &agent(), "http://muster:8080", fresh(&"x".into())));
    assert_eq!(repaired.metadata.owner_references.as_ref().map(|owners| owners[0].uid.as_str()), Some("u1"));
    let token = Token::read(repaired, Owner::This, &agent(), "http://muster:8080");
    assert!(issued(&token).is_current && token.is_own());
    assert_eq!(token.value.map(|value| value.expose_secret() == TOKEN), Some(true));
}

#[test]
fn a_token_stands_in_a_text_as_a_whole_word() {
    let token = restored(TOKEN);
    for text in [TOKEN.to_owned(), format!("header: X-Agent-Token: {TOKEN}\n"), format!("(`{TOKEN}`)")] {
        assert!(token.stands_in(&text), "{text}");
    }
    for text in [String::new(), TOKEN[1..].to_owned(), format!("{TOKEN}x"), format!("x-{TOKEN}")] {
        assert!(!token.stands_in(&text), "{text}");
    }
    assert!(!Token::missing().stands_in(TOKEN) && !Token::missing().may_be_proof());
}

#[test]
fn the_previous_token_is_a_proof_too() {
    let (agent, url) = (agent(), "http://muster:8080");
    let first = Token::missing().changed(TokenChange::Issue, &agent, url, fresh(&TOKEN.into()));
    let rotate = Token::read(written(first), Owner::This, &agent, url);
    let rotate = rotate.changed(TokenChange::Rotate, &agent, url, fresh(&TOKEN.replace('q', "Q").into()));
    assert!(Token::read(written(rotate), Owner::This, &agent, url).stands_in(TOKEN));
}

#[test]
fn a_text_that_somebody_can_guess_is_no_proof() {
    let slug = "how-to-keep-the-memory-of-agents-in-backups";
    let ruler = "-".repeat(43);
    for known in [slug, &ruler, "agent", "mc-0b0e0c4e-5d5c-4d3b-9f0a-2f1f6f0f7a01xxxx"] {
        let token = restored(known);
        assert!(!token.may_be_proof() && !token.stands_in(known), "{known}");
    }
    let mut secret = written(Token::missing().changed(TokenChange::Issue, &agent(), "u", fresh(&"first".into())));
    secret.data.get_or_insert_default().insert(keys::TOKEN_KEY.to_owned(), bytes(TOKEN));
    assert!(!Token::read(secret, Owner::Absent, &agent(), "u").may_be_proof(), "Muster did not issue it");
}

#[test]
fn a_debug_print_shows_no_token() {
    let secret = written(Token::missing().changed(TokenChange::Issue, &agent(), "u", fresh(&"hidden".into())));
    let token = Token::read(secret, Owner::This, &agent(), "u");
    assert!(!format!("{token:?}").contains("hidden") && !format!("{token:?}").contains(&format!("{:?}", b"hidden")));
}
