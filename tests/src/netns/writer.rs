//! The practitioner, who writes wherever the record is, and somebody who looks that it is in one place only.

use std::time::Duration;

use domicile_cli::Client;
use domicile_proto::records::v1::PutItemRequest;
use domicile_types::{Class, Code, Error};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::kill::arena::Arena;
use crate::kill::database::Database;
use crate::kill::journey::put;
use crate::world::moves::note;
use crate::world::{Outcome, World, Written, pause};

/// Between two notes.
const BETWEEN: Duration = Duration::from_millis(400);
/// A note that is not taken for so long is a record that cannot be written any more.
const LONGEST: Duration = Duration::from_secs(240);
/// Between two looks at who is home.
const LOOK: Duration = Duration::from_millis(400);

/// What was written, and how long it took at worst.
#[derive(Clone, Debug, Default)]
pub struct Wrote {
    /// What was acknowledged.
    pub written: Written,
    /// The longest that one note took from its first try until it was acknowledged.
    pub longest: Duration,
}

/// What to do about an answer to a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Advice {
    /// Try again.
    Wait,
    /// Try the other region: the record is not here.
    Elsewhere,
    /// Nobody may answer this.
    Wrong,
}

fn advice(error: &Error) -> Advice {
    match error.class() {
        Class::Unavailable | Class::ResourceExhausted | Class::DeadlineExceeded | Class::Aborted => {
            Advice::Wait
        }
        // Where there is no record, a stranger is told nothing.
        Class::NotFound | Class::Unauthenticated => Advice::Elsewhere,
        _ if error.code() == Code::RecordMoved => Advice::Elsewhere,
        _ => Advice::Wrong,
    }
}

/// Writes notes, the first one with this number, until told to stop; each where the record is then. The same
/// note keeps its idempotency key wherever it is tried.
///
/// # Errors
/// With an answer that nobody may give, and when a note is not taken for four minutes.
pub async fn write_on(
    regions: [Client; 2],
    subject: String,
    first: usize,
    mut over: watch::Receiver<bool>,
) -> Outcome<Wrote> {
    let (mut wrote, mut at, mut number) = (Wrote::default(), 0, first);
    while tokio::time::timeout(BETWEEN, over.wait_for(|over| *over)).await.is_err() {
        let text = Arena::text(number);
        let draft = Some(note(&text));
        let request = PutItemRequest { subject_id: subject.clone(), idempotency_key: World::key(), draft };
        let began = Instant::now();
        let item = loop {
            match put(&regions[at], request.clone()).await {
                Ok(item) => break item,
                Err(error) if advice(&error) == Advice::Wrong => {
                    return Err(format!("a write is refused: {error}").into());
                }
                Err(error) if began.elapsed() > LONGEST => {
                    return Err(format!("the record cannot be written: {error}").into());
                }
                Err(error) if advice(&error) == Advice::Elsewhere => at = 1 - at,
                Err(_) => {}
            }
            pause().await;
        };
        wrote.longest = wrote.longest.max(began.elapsed());
        wrote.written.0.insert(item, text);
        number += 1;
    }
    Ok(wrote)
}

/// Looks until told to stop whether both regions call themselves the record's home (invariant 1). The destination
/// is asked first: once it is home the source has let go, so no moment between two questions looks like two homes.
///
/// # Errors
/// When both do.
pub async fn one_home(
    [source, destination]: [Database; 2],
    subject: String,
    mut over: watch::Receiver<bool>,
) -> Outcome<usize> {
    let sql = format!("SELECT standing, epoch FROM residency WHERE subject_id = @{subject}@");
    let mut looks = 0;
    while tokio::time::timeout(LOOK, over.wait_for(|over| *over)).await.is_err() {
        let there = destination.ask(&sql).await?.concat();
        let here = source.ask(&sql).await?.concat();
        if there.starts_with("Active|") && here.starts_with("Active|") {
            return Err(format!("I1: two homes: {here} and {there}").into());
        }
        looks += 1;
    }
    Ok(looks)
}
