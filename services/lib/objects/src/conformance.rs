//! The suite that every object store must pass. Each check uses names of its own and leaves nothing.

use bytes::Bytes;
use domicile_types::{Code, Error, Result};
use futures::future::join_all;
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};

use crate::{MAX_RANGE, ObjectName, ObjectPrefix, ObjectStore};

/// What a check found wrong.
pub type Verdict = Result<(), String>;

/// Runs the whole suite against an empty store.
///
/// # Errors
/// What the store did that it must not.
pub async fn object_store(store: &dyn ObjectStore) -> Verdict {
    object_store_rows(store).await.into_iter().try_for_each(|(_, verdict)| verdict)
}

/// The same, row by row: for servers that only stand in for an object store and show some rows alone.
pub async fn object_store_rows(store: &dyn ObjectStore) -> [(&'static str, Verdict); 9] {
    [
        ("reads what it stored", reads_what_it_stored(store).await),
        ("reads ranges", reads_ranges(store).await),
        ("never overwrites", never_overwrites(store).await),
        ("of concurrent creates one wins", has_one_winner(store).await),
        ("leaves nothing of a torn stream", leaves_nothing_of_a_torn_stream(store).await),
        ("lists whole prefixes", lists_whole_prefixes(store).await),
        ("deletes once and again", deletes_once_and_again(store).await),
        ("misses what is not there", misses_what_is_not_there(store).await),
        ("is empty after the suite", is_empty(store).await),
    ]
}

async fn is_empty(store: &dyn ObjectStore) -> Verdict {
    holds(same(&store.list(&ObjectPrefix::all()).await, &Vec::new()), "the suite leaves nothing")
}

fn holds(true_: bool, what: &str) -> Verdict {
    if true_ { Ok(()) } else { Err(what.to_owned()) }
}

fn same<T: PartialEq>(result: &Result<T>, expected: &T) -> bool {
    result.as_ref().is_ok_and(|value| value == expected)
}

fn fails<T>(result: &Result<T>, code: Code) -> bool {
    result.as_ref().is_err_and(|error| error.code() == code)
}

fn name(text: &str) -> Result<ObjectName, String> {
    ObjectName::new(text).map_err(|error| error.to_string())
}

fn pieces(content: Vec<u8>, each: usize) -> BoxStream<'static, Result<Bytes>> {
    let content = Bytes::from(content);
    let starts = (0..content.len()).step_by(each);
    let pieces: Vec<_> = starts.map(|at| Ok(content.slice(at..content.len().min(at + each)))).collect();
    stream::iter(pieces).boxed()
}

async fn read(store: &dyn ObjectStore, name: &ObjectName) -> Result<Vec<u8>> {
    let pieces: Vec<Bytes> = store.read(name).await?.try_collect().await?;
    Ok(pieces.concat())
}

/// Bytes that differ everywhere, so that a shifted or repeated piece shows.
fn content(length: u32) -> Vec<u8> {
    (0..length).flat_map(|at| at.wrapping_mul(0x9E37_79B9).to_be_bytes().into_iter().take(1)).collect()
}

async fn reads_what_it_stored(store: &dyn ObjectStore) -> Verdict {
    let name = name("suite/read")?;
    for length in [0, 1, 1 << 16, 3_000_017] {
        let content = content(length);
        let created = store.create(&name, pieces(content.clone(), 100_000)).await;
        holds(same(&created, &u64::from(length)), "create returns the length")?;
        holds(same(&store.length(&name).await, &u64::from(length)), "length is what was stored")?;
        holds(same(&read(store, &name).await, &content), "read returns what was stored")?;
        holds(store.delete(&name).await.is_ok(), "delete removes it")?;
    }
    Ok(())
}

async fn reads_ranges(store: &dyn ObjectStore) -> Verdict {
    let name = name("suite/range")?;
    let content = content(10_000);
    holds(store.create(&name, pieces(content.clone(), 999)).await.is_ok(), "create")?;
    let inside = [(0, 10_000), (0, 1), (9_999, 1), (1_234, 5_678), (10_000, 0)];
    let over_the_end = [(0, 10_001), (9_999, 2), (9_000, 1 << 20)];
    for (offset, length) in inside.into_iter().chain(over_the_end) {
        let expected = content.iter().skip(offset).take(length).copied().collect::<Bytes>();
        let range = store.read_range(&name, offset as u64, length as u64).await;
        holds(same(&range, &expected), "read_range returns the range, as far as there is any")?;
    }
    for (offset, length) in [(10_000, 1), (50_000, 1), (u64::from(u32::MAX), 7)] {
        let range = store.read_range(&name, offset, length).await;
        holds(fails(&range, Code::ObjectIncomplete), "a range that begins past the end is refused")?;
    }
    let range = store.read_range(&name, 0, MAX_RANGE + 1).await;
    holds(fails(&range, Code::TooLarge), "a range past the bound is refused")?;
    holds(store.delete(&name).await.is_ok(), "delete")
}

async fn never_overwrites(store: &dyn ObjectStore) -> Verdict {
    let name = name("suite/once")?;
    holds(store.create(&name, pieces(b"first".to_vec(), 2)).await.is_ok(), "create")?;
    let second = store.create(&name, pieces(b"second".to_vec(), 2)).await;
    holds(fails(&second, Code::ObjectExists), "a second create is refused")?;
    holds(same(&read(store, &name).await, &b"first".to_vec()), "the first content stays")?;
    holds(store.delete(&name).await.is_ok(), "delete")?;
    holds(store.create(&name, pieces(b"third".to_vec(), 2)).await.is_ok(), "a deleted name is free")?;
    holds(store.delete(&name).await.is_ok(), "delete")
}

async fn has_one_winner(store: &dyn ObjectStore) -> Verdict {
    let name = name("suite/race")?;
    let contents: Vec<Vec<u8>> = (0..8).map(|racer| vec![racer; 300_000]).collect();
    let racers = contents.iter().map(|content| store.create(&name, pieces(content.clone(), 7_000)));
    let outcomes = join_all(racers).await;
    let won: Vec<_> = outcomes.iter().zip(&contents).filter(|(outcome, _)| outcome.is_ok()).collect();
    let [(_, winner)] = won.as_slice() else {
        return Err(format!("of concurrent creates one wins, not {}", won.len()));
    };
    let lost = outcomes.iter().filter(|outcome| fails(outcome, Code::ObjectExists)).count();
    holds(lost == contents.len() - 1, "the others learn that it exists")?;
    holds(same(&read(store, &name).await, winner), "the winner's content stands, whole")?;
    holds(store.delete(&name).await.is_ok(), "delete")
}

async fn leaves_nothing_of_a_torn_stream(store: &dyn ObjectStore) -> Verdict {
    let name = name("suite/torn")?;
    let torn = pieces(vec![1; 500_000], 50_000)
        .chain(stream::iter([Err(Error::new(Code::ConsentWithdrawn))]))
        .boxed();
    let outcome = store.create(&name, torn).await;
    holds(fails(&outcome, Code::ConsentWithdrawn), "the stream's own error comes back")?;
    holds(fails(&store.length(&name).await, Code::ObjectMissing), "nothing has the name")?;
    holds(same(&store.list(&ObjectPrefix::all()).await, &Vec::new()), "nothing is listed")?;
    holds(store.create(&name, pieces(vec![2; 10], 3)).await.is_ok(), "the name is free")?;
    holds(store.delete(&name).await.is_ok(), "delete")
}

async fn lists_whole_prefixes(store: &dyn ObjectStore) -> Verdict {
    let names = ["suite/a/1", "suite/a/2/3", "suite/ab/1", "suite-b/1"];
    for text in names {
        holds(store.create(&name(text)?, pieces(vec![0; 3], 1)).await.is_ok(), "create")?;
    }
    let cases = [
        ("suite/a", &names[..2]),
        ("suite/a/2", &names[1..2]),
        ("suite", &names[..3]),
        ("suite/a/1", &[]),
        ("suite/b", &[]),
    ];
    for (prefix, expected) in cases {
        let prefix = ObjectPrefix::new(prefix).map_err(|error| error.to_string())?;
        let expected = expected.iter().map(|text| name(text)).collect::<Result<Vec<_>, _>>()?;
        holds(same(&store.list(&prefix).await, &expected), "a prefix lists what is under it")?;
    }
    for text in names {
        holds(store.delete(&name(text)?).await.is_ok(), "delete")?;
    }
    Ok(())
}

async fn deletes_once_and_again(store: &dyn ObjectStore) -> Verdict {
    let (gone, stays) = (name("suite/delete/gone")?, name("suite/delete/stays")?);
    for name in [&gone, &stays] {
        holds(store.create(name, pieces(vec![0; 3], 1)).await.is_ok(), "create")?;
    }
    for _ in 0..2 {
        holds(store.delete(&gone).await.is_ok(), "a delete may be repeated")?;
        holds(fails(&store.length(&gone).await, Code::ObjectMissing), "it is gone")?;
        holds(same(&store.length(&stays).await, &3), "its neighbour stays")?;
    }
    holds(store.delete(&stays).await.is_ok(), "delete")
}

async fn misses_what_is_not_there(store: &dyn ObjectStore) -> Verdict {
    let name = name("suite/never")?;
    holds(fails(&store.length(&name).await, Code::ObjectMissing), "length")?;
    holds(fails(&store.read(&name).await, Code::ObjectMissing), "read")?;
    holds(fails(&store.read_range(&name, 0, 1).await, Code::ObjectMissing), "read_range")?;
    holds(store.delete(&name).await.is_ok(), "delete")
}
