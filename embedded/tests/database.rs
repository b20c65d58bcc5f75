//! The database: what was acknowledged is there after any end of the process.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by a panic, outside of #[test] functions too")]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use muster_embedded::{EmbeddedApi, OpenError};
use serde_json::json;

/// Names the file to a test that runs again as the process which is killed.
const FILE: &str = "MUSTER_TEST_DATABASE";
const KILLS: usize = 12;

fn open(file: &Path) -> Result<EmbeddedApi, OpenError> {
    EmbeddedApi::in_file(file, &[], "admin-token".into(), Arc::new(Timestamp::now))
}

/// Opens the file once the clients before have ended, whose tasks hold it.
async fn reopen(file: &Path) -> Result<EmbeddedApi, OpenError> {
    loop {
        match open(file) {
            Err(OpenError::InUse) => tokio::task::yield_now().await,
            other => return other,
        }
    }
}

fn maps(api: &EmbeddedApi) -> Api<ConfigMap> {
    Api::namespaced(api.client(), "default")
}

async fn names(api: &EmbeddedApi) -> Vec<String> {
    let list = maps(api).list(&ListParams::default()).await.unwrap();
    list.items.into_iter().filter_map(|map| map.metadata.name).collect()
}

fn map(name: &str) -> ConfigMap {
    serde_json::from_value(json!({ "metadata": { "name": name } })).unwrap()
}

/// Writes until it is killed. Prints each acknowledged write.
async fn write_forever(file: &Path) {
    let api = open(file).unwrap();
    for n in 0.. {
        let name = format!("{}-{n}", std::process::id());
        let made = maps(&api).create(&PostParams::default(), &map(&name)).await.unwrap();
        println!("made {name} {}", made.metadata.resource_version.unwrap());
        let patch = Patch::Merge(json!({ "data": { "n": n.to_string() } }));
        maps(&api).patch(&name, &PatchParams::default(), &patch).await.unwrap();
        println!("changed {name}");
        if n % 3 == 2 {
            maps(&api).delete(&name, &DeleteParams::default()).await.unwrap();
            println!("deleted {name}");
        }
    }
}

#[tokio::test]
async fn every_acknowledged_write_survives_a_kill() {
    if let Some(file) = std::env::var_os(FILE) {
        return write_forever(Path::new(&file)).await;
    }
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("objects.redb");
    let mut last_revision = 0;
    for kill in 0..KILLS {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["every_acknowledged_write_survives_a_kill", "--exact", "--nocapture"]);
        let mut child = command.env(FILE, &file).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let (mut made, mut changed, mut deleted) = (Vec::new(), Vec::new(), Vec::new());
        let mut count = 0;
        for line in lines.map_while(Result::ok) {
            let words: Vec<_> = line.split(' ').map(ToOwned::to_owned).collect();
            match words.first().map(String::as_str) {
                Some("made") => {
                    last_revision = words[2].parse::<u64>().unwrap().max(last_revision);
                    made.push(words[1].clone());
                }
                Some("changed") => changed.push(words[1].clone()),
                Some("deleted") => deleted.push(words[1].clone()),
                _ => continue,
            }
            count += 1;
            // Another place of the sequence each time. What is in the pipe was acknowledged too.
            if count == 20 + kill {
                child.kill().unwrap();
            }
        }
        child.wait().unwrap();
        let api = reopen(&file).await.unwrap();
        let there = names(&api).await;
        for name in made.iter().filter(|name| !deleted.contains(name)) {
            // The write after the last acknowledged one may have been its deletion.
            let may_be_deleted = changed.last() == Some(name);
            assert!(there.contains(name) || may_be_deleted, "{name} was made and is not there after kill {kill}");
        }
        for name in &deleted {
            assert!(!there.contains(name), "{name} was deleted and is there after kill {kill}");
        }
        for name in changed.iter().filter(|name| there.contains(name)) {
            let found = maps(&api).get(name).await.unwrap();
            assert!(found.data.is_some(), "the change of {name} is lost");
        }
        let revision = maps(&api).list(&ListParams::default()).await.unwrap().metadata.resource_version.unwrap();
        assert!(revision.parse::<u64>().unwrap() >= last_revision, "the revision went back");
    }
}

/// Limits the size of the files that this process writes, as a full disk does.
fn limit_files(bytes: &str) {
    let process = std::process::id().to_string();
    let done = Command::new("prlimit").args(["--pid", &process, &format!("--fsize={bytes}:unlimited")]).status();
    assert!(done.unwrap().success());
}

#[tokio::test]
async fn a_write_that_the_disk_does_not_take_changes_nothing_and_the_next_one_is_taken() {
    const NAME: &str = "a_write_that_the_disk_does_not_take_changes_nothing_and_the_next_one_is_taken";
    let Some(file) = std::env::var_os(FILE) else {
        // The process ignores the signal of a file that is too large, so that it gets the error of the write.
        let dir = tempfile::tempdir().unwrap();
        let mut shell = Command::new("sh");
        shell.args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""]).arg(std::env::current_exe().unwrap());
        let output = shell.args([NAME, "--exact"]).env(FILE, dir.path().join("objects.redb")).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        return;
    };
    let api = open(Path::new(&file)).unwrap();
    maps(&api).create(&PostParams::default(), &map("one")).await.unwrap();
    limit_files("4096");
    for _ in 0..2 {
        let refused = maps(&api).create(&PostParams::default(), &map("two")).await.unwrap_err();
        assert!(refused.to_string().contains("nothing is changed"), "{refused}");
        assert_eq!(names(&api).await, ["one"]);
    }
    limit_files("unlimited");
    maps(&api).create(&PostParams::default(), &map("two")).await.unwrap();
    assert_eq!(names(&api).await, ["one", "two"]);
}

#[tokio::test]
async fn a_database_has_one_process_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("objects.redb");
    let first = open(&file).unwrap();
    assert!(matches!(open(&file), Err(OpenError::InUse)));
    drop(first);
    reopen(&file).await.unwrap();
}

#[tokio::test]
async fn a_damaged_database_is_named_and_left_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("objects.redb");
    let api = open(&file).unwrap();
    maps(&api).create(&PostParams::default(), &map("one")).await.unwrap();
    let snapshot = api.snapshot();
    drop(api);
    drop(reopen(&file).await.unwrap());
    std::fs::write(&file, "not a database").unwrap();
    let error = open(&file).unwrap_err();
    assert!(matches!(&error, OpenError::Damaged(_)), "{error:?}");
    assert_eq!(std::fs::read(&file).unwrap(), b"not a database");

    let restored = open(&dir.path().join("new.redb")).unwrap();
    restored.restore(&snapshot).unwrap();
    assert_eq!(names(&restored).await, ["one"]);
}

#[tokio::test]
async fn a_database_with_any_byte_changed_is_opened_or_refused() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("objects.redb");
    let api = open(&file).unwrap();
    for n in 0..50 {
        maps(&api).create(&PostParams::default(), &map(&format!("m{n}"))).await.unwrap();
    }
    drop(api);
    drop(reopen(&file).await.unwrap());
    let good = std::fs::read(&file).unwrap();
    let (mut opened, mut refused) = (0, 0);
    for place in (0..good.len()).step_by(good.len() / 64) {
        let mut bad = good.clone();
        for byte in bad.iter_mut().skip(place).take(16) {
            *byte ^= 0x5a;
        }
        std::fs::write(&file, bad).unwrap();
        match reopen(&file).await {
            Ok(_) => opened += 1,
            Err(_) => refused += 1,
        }
    }
    println!("opened {opened}, refused {refused}");
    assert!(refused > 0);
}

#[tokio::test]
async fn requests_from_outside_need_the_token() {
    let dir = tempfile::tempdir().unwrap();
    let api = open(&dir.path().join("objects.redb")).unwrap();
    let outside = kube::Client::new(api.for_tokens(), "default");
    let get = |token: &str| {
        let request =
            http::Request::get("/api/v1/namespaces/default").header("authorization", format!("Bearer {token}"));
        outside.send(request.body(kube::client::Body::empty()).unwrap())
    };
    assert_eq!(get("other").await.unwrap().status(), 401);
    assert_eq!(get("").await.unwrap().status(), 401);
    assert_eq!(get("admin-token").await.unwrap().status(), 200);
}
