//! The benchmark program runs, in sizes that measure nothing: what it asks of a region is still answered.
#![cfg(test)]

use std::process::Stdio;

use domicile_tests::world::Outcome;
use serde_json::Value;
use tokio::process::Command;

/// Two clients write and read for a second; every answer is checked by the program itself.
async fn load(database: &str) -> Outcome<Value> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_domicile-bench"));
    command.args(["load", "--database", database, "--mode", "mixed", "--clients", "2"]);
    command.args(["--items", "3", "--seconds", "1", "--json"]).stdin(Stdio::null());
    let done = command.output().await?;
    if !done.status.success() {
        return Err(String::from_utf8_lossy(&done.stderr).into());
    }
    let told: Value = serde_json::from_slice(&done.stdout)?;
    assert!(told["conditions"]["cores"].as_u64() > Some(0));
    Ok(told["measured"][0]["figures"].clone())
}

#[tokio::test]
async fn load_on_postgres_counts_requests_and_statements() {
    let figures = load("postgres").await.unwrap();
    assert!(figures["latency"]["count"].as_u64() > Some(0), "{figures}");
    assert!(figures["asked_per_request"]["queries"].as_f64() > Some(1.0), "{figures}");
    assert!(figures["asked_per_request"]["transactions"].as_f64() > Some(0.0), "{figures}");
}

#[tokio::test]
async fn load_on_sqlite_counts_requests() {
    let figures = load("sqlite").await.unwrap();
    assert!(figures["latency"]["count"].as_u64() > Some(0), "{figures}");
    assert!(figures["asked_per_request"].is_null(), "{figures}");
}
