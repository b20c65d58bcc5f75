//! The fleet page, in a real browser.

use muster_harness::{Browser, Failure};
use serde_json::{Value, json};

use crate::stack::{CONDITION_TIMEOUT, Fleet, Stack, manifest, unwoken, worker};

/// Records every phase that the row of the agent `one` shows from now on.
const RECORD_PHASES: &str = "
    window.phases = [];
    new MutationObserver(() => {
        const badge = [...document.querySelectorAll('.row')].find((r) => r.textContent.includes('/one'))?.querySelector('.badge');
        const phase = badge?.textContent;
        if (phase && phase !== window.phases.at(-1)) window.phases.push(phase);
    }).observe(document.body, { subtree: true, childList: true, characterData: true });";

/// The visible rows, as `namespace/name`.
const VISIBLE_ROWS: &str = "[...document.querySelectorAll('.row')].filter((r) => r.checkVisibility()).map((r) => r.querySelector('.sub').textContent).sort()";

/// The token of an account that may only read the agents of this namespace, made as the page says.
async fn viewer(fleet: &Fleet) -> Result<String, Failure> {
    let account = format!("--serviceaccount={}:viewer", fleet.namespace);
    fleet.run(&["create", "serviceaccount", "viewer"]).await?;
    fleet.run(&["create", "rolebinding", "viewer", "--clusterrole=muster-view", &account]).await?;
    fleet.account_token("viewer").await
}

async fn sign_in(browser: &mut Browser, token: &str) -> Result<(), Failure> {
    browser.until("!document.getElementById('sign-in').hidden", CONDITION_TIMEOUT).await?;
    let fill = format!("document.getElementById('token').value = {}", json!(token));
    browser.evaluate(&fill).await?;
    browser.evaluate("document.getElementById('sign-in-form').requestSubmit()").await.map(drop)
}

async fn until_rows(browser: &mut Browser, rows: &[&str]) -> Result<(), Failure> {
    browser
        .until(&format!("JSON.stringify({VISIBLE_ROWS}) === {}", json!(json!(rows).to_string())), CONDITION_TIMEOUT)
        .await
}

/// Waits until the visible text of the page contains these words.
async fn until_reads(browser: &mut Browser, words: &str) -> Result<(), Failure> {
    browser.until(&format!("document.body.innerText.includes({})", json!(words)), CONDITION_TIMEOUT).await
}

/// Gives the whole document, hidden parts included, to the canary.
async fn see_document(stack: &Stack, browser: &mut Browser) -> Result<(), Failure> {
    let document = browser.evaluate("document.documentElement.outerHTML").await?;
    stack.watched.look.canary.see("the page", document.as_str().unwrap_or_default());
    Ok(())
}

async fn assert_fits(browser: &mut Browser) -> Result<(), Failure> {
    assert_eq!(browser.evaluate("document.documentElement.scrollWidth").await?, json!(360), "the page is 360 px wide");
    Ok(())
}

pub(crate) async fn the_page_shows_new_agents_without_a_reload(stack: &mut Stack) -> Result<(), Failure> {
    let fleet = stack.fleet("page").await?;
    let token = viewer(&fleet).await?;
    let mut browser = Browser::start().await?;
    browser.resize(1280, 800).await?;
    browser.navigate(&stack.operator.api_url()).await?;
    browser.evaluate("window.mark = 'kept'").await?;
    sign_in(&mut browser, &token).await?;
    until_reads(&mut browser, "kubectl apply -k deploy/examples").await?;

    browser.evaluate(RECORD_PHASES).await?;
    fleet.apply(&[worker("one")]).await?;
    until_rows(&mut browser, &["page/one"]).await?;
    browser.until("['Ready', 'Active'].every((phase) => window.phases.includes(phase))", CONDITION_TIMEOUT).await?;
    let phases = browser.evaluate("window.phases").await?;
    let at = |phase: &str| phases.as_array().and_then(|all| all.iter().position(|p| p == phase));
    assert!(at("Ready") < at("Active"), "{phases}");

    let broken =
        manifest("Agent", "lost", json!({ "boardRef": { "name": "elsewhere" }, "wake": { "enabled": false } }));
    fleet.apply(&[broken]).await?;
    let message = fleet.until_reason("agent/lost", "Ready", "BoardNotFound").await?;
    until_reads(&mut browser, &message).await?;
    until_rows(&mut browser, &["page/lost", "page/one"]).await?;

    browser.evaluate("document.querySelector('.phase[data-phase=failed]').click()").await?;
    until_rows(&mut browser, &["page/lost"]).await?;
    assert_eq!(browser.evaluate("location.search").await?, json!("?phase=failed"));
    browser.evaluate("history.back()").await?;
    until_rows(&mut browser, &["page/lost", "page/one"]).await?;

    fleet.apply(&[unwoken("two")]).await?;
    until_rows(&mut browser, &["page/lost", "page/one", "page/two"]).await?;
    fleet.run(&["delete", "agent", "two"]).await?;
    until_rows(&mut browser, &["page/lost", "page/one"]).await?;

    check_agent_page(&mut browser, &fleet, &message).await?;
    assert_eq!(browser.evaluate("window.mark").await?, json!("kept"), "the page was not loaded again");
    let failed = "Failed to load resource: the server responded with a status of 403";
    let errors: Vec<_> =
        browser.errors().iter().filter(|e| !(e.starts_with(failed) && e.ends_with("/events"))).collect();
    assert!(errors.is_empty(), "{errors:?}");

    see_document(stack, &mut browser).await?;
    browser.navigate(&format!("{}/?phase=failed", stack.operator.api_url())).await?;
    until_rows(&mut browser, &["page/lost"]).await?;
    fleet.delete().await
}

/// Opens the page of the agent `lost` at the width of a phone and waits for its recovery.
async fn check_agent_page(browser: &mut Browser, fleet: &Fleet, message: &str) -> Result<(), Failure> {
    browser.resize(360, 740).await?;
    assert_fits(browser).await?;
    browser.evaluate("[...document.querySelectorAll('.row a')].find((a) => a.textContent === 'lost').click()").await?;
    until_reads(browser, "What to do next").await?;
    until_reads(browser, message).await?;
    until_reads(browser, "kubectl -n page describe agents.muster.dev lost").await?;
    until_reads(browser, "Your account may not list events").await?;
    assert_fits(browser).await?;
    let board = manifest("Board", "elsewhere", json!({ "gatewayRef": { "name": "gw" } }));
    fleet.apply(&[board]).await?;
    browser.until("document.querySelector('.steps').parentElement.hidden", CONDITION_TIMEOUT).await?;
    until_reads(browser, "Synced").await?;
    assert_fits(browser).await?;
    // The agent fails again, for the list.
    fleet.run(&["delete", "board", "elsewhere"]).await?;
    until_reads(browser, "What to do next").await?;
    browser.evaluate("document.querySelector('.back').click()").await?;
    until_rows(browser, &["page/lost", "page/one"]).await
}

/// Signs out while the page of an agent is open. Nothing of the agent may stay in the document, hidden or not.
async fn check_sign_out_of_agent_page(browser: &mut Browser, fleet: &Fleet, token: &str) -> Result<(), Failure> {
    fleet.apply(&[worker("secretive")]).await?;
    sign_in(browser, token).await?;
    until_rows(browser, &["strangers/secretive"]).await?;
    browser.evaluate("document.querySelector('.row a').click()").await?;
    until_reads(browser, "kubectl -n strangers describe agents.muster.dev secretive").await?;
    browser.evaluate("document.getElementById('sign-out').click()").await?;
    browser.until("!document.documentElement.outerHTML.includes('secretive')", CONDITION_TIMEOUT).await?;
    assert_eq!(browser.evaluate("location.search").await?, json!(""));
    Ok(())
}

pub(crate) async fn a_refused_token_leads_back_to_the_form(stack: &mut Stack) -> Result<(), Failure> {
    let fleet = stack.fleet("strangers").await?;
    let mut browser = Browser::start().await?;
    browser.resize(360, 740).await?;
    browser.navigate(&stack.operator.api_url()).await?;
    sign_in(&mut browser, "no-such-token").await?;
    until_reads(&mut browser, "This token was not accepted").await?;
    browser.until("!document.getElementById('sign-in').hidden", CONDITION_TIMEOUT).await?;
    assert_fits(&mut browser).await?;
    assert_eq!(browser.evaluate("sessionStorage.length").await?, json!(0), "a refused token is not stored");
    assert_eq!(browser.evaluate("location.search + location.hash").await?, json!(""));

    let token = viewer(&fleet).await?;
    sign_in(&mut browser, &token).await?;
    until_reads(&mut browser, "No agents yet").await?;
    browser.evaluate("document.getElementById('sign-out').click()").await?;
    browser.until("!document.getElementById('sign-in').hidden", CONDITION_TIMEOUT).await?;
    assert_eq!(browser.evaluate("sessionStorage.length").await?, json!(0));
    assert_eq!(browser.evaluate("document.querySelectorAll('.row').length").await?, Value::from(0));
    check_sign_out_of_agent_page(&mut browser, &fleet, &token).await?;
    see_document(stack, &mut browser).await?;
    fleet.delete().await
}
