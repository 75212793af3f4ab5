//! What a store of wrapped keys must do.

use std::future::Future;
use std::pin::{Pin, pin};
use std::task::Poll;

use domicile_crypto::{Purpose, RecordKeyRow, SubjectSecret, TransferKey, WrappedKey, WrappedKeys};
use domicile_types::{Ctx, PracticeId, Result, SubjectId, TransferId};

use super::{Verdict, given, holds, same};

/// Runs the suite against a fresh store.
///
/// # Errors
/// What the store did that it must not.
pub async fn wrapped_keys(rows: &dyn WrappedKeys, ctx: &Ctx) -> Verdict {
    keeps_wrapping_keys_by_practice_and_version(rows, ctx).await?;
    keeps_record_keys_by_subject_practice_and_version(rows, ctx).await?;
    counts_uses(rows, ctx).await?;
    lists_a_subjects_record_keys(rows, ctx).await?;
    keeps_subject_secrets(rows, ctx).await?;
    keeps_transfer_keys(rows, ctx).await?;
    keeps_region_keys(rows).await?;
    has_one_winner(rows, ctx).await?;
    destroys_one_subject(rows, ctx).await
}

fn key(version: u32, wrapped: &[u8]) -> WrappedKey {
    WrappedKey { version, wrapped: wrapped.to_vec() }
}

async fn keeps_wrapping_keys_by_practice_and_version(rows: &dyn WrappedKeys, ctx: &Ctx) -> Verdict {
    let (one, two) = (Some(PracticeId::generate(ctx)), Some(PracticeId::generate(ctx)));
    for (at, practice) in [one, None].into_iter().enumerate() {
        holds(same(&rows.practice_key(practice).await, &None), "there is no key at first")?;
        let first = key(1, &[1, u8::try_from(at).unwrap_or(0)]);
        let stands = given(rows.insert_practice_key(practice, &first).await, "insert_practice_key")?;
        holds(stands == first, "the first insert stands")?;
        let stands = given(rows.insert_practice_key(practice, &key(1, b"late")).await, "insert again")?;
        holds(stands == first, "an insert never replaces")?;
        let third = key(3, b"three");
        given(rows.insert_practice_key(practice, &third).await, "insert a third version")?;
        given(rows.insert_practice_key(practice, &key(2, b"two")).await, "insert a second version")?;
        holds(same(&rows.practice_key(practice).await, &Some(third)), "the highest version is newest")?;
        holds(same(&rows.practice_key_at(practice, 1).await, &Some(first)), "versions are kept")?;
        holds(same(&rows.practice_key_at(practice, 4).await, &None), "no other version is there")?;
    }
    holds(same(&rows.practice_key(two).await, &None), "practices are apart")
}

async fn keeps_record_keys_by_subject_practice_and_version(rows: &dyn WrappedKeys, ctx: &Ctx) -> Verdict {
    let (one, two) = (SubjectId::generate(ctx), SubjectId::generate(ctx));
    let practice = Some(PracticeId::generate(ctx));
    holds(same(&rows.record_key(one, practice).await, &None), "there is no key at first")?;
    let (first, second) = (key(1, b"one"), key(2, b"two"));
    let stands = given(rows.insert_record_key(one, practice, &first).await, "insert_record_key")?;
    holds(stands == first, "the first insert stands")?;
    let stands = given(rows.insert_record_key(one, practice, &key(1, b"late")).await, "insert again")?;
    holds(stands == first, "an insert never replaces")?;
    given(rows.insert_record_key(one, practice, &second).await, "insert a second version")?;
    holds(same(&rows.record_key(one, practice).await, &Some(second)), "the highest version is newest")?;
    holds(same(&rows.record_key_at(one, practice, 1).await, &Some(first)), "versions are kept")?;
    for (subject, practice) in [(one, None), (two, practice), (one, Some(PracticeId::generate(ctx)))] {
        holds(same(&rows.record_key(subject, practice).await, &None), "subjects and practices are apart")?;
        holds(same(&rows.record_key_at(subject, practice, 1).await, &None), "at a version too")?;
    }
    Ok(())
}

async fn counts_uses(rows: &dyn WrappedKeys, ctx: &Ctx) -> Verdict {
    let subject = SubjectId::generate(ctx);
    holds(same(&rows.add_uses(subject, None, 1, 5).await, &None), "no key, no uses")?;
    given(rows.insert_record_key(subject, None, &key(1, b"one")).await, "insert_record_key")?;
    holds(same(&rows.add_uses(subject, None, 1, 5).await, &Some(5)), "a count begins at nought")?;
    holds(same(&rows.add_uses(subject, None, 1, 1 << 28).await, &Some((1 << 28) + 5)), "uses add up")?;
    given(rows.insert_record_key(subject, None, &key(1, b"late")).await, "insert again")?;
    holds(same(&rows.add_uses(subject, None, 1, 0).await, &Some((1 << 28) + 5)), "an insert resets nothing")?;
    given(rows.insert_record_key(subject, None, &key(2, b"two")).await, "insert a second version")?;
    holds(same(&rows.add_uses(subject, None, 2, 1).await, &Some(1)), "each version counts its own")?;
    let adders = (0..8).map(|_| rows.add_uses(subject, None, 2, 10)).collect();
    let mut totals = all(adders).await.into_iter().flatten().flatten().collect::<Vec<_>>();
    totals.sort_unstable();
    let expected: Vec<u64> = (1..=8).map(|times| 1 + 10 * times).collect();
    holds(totals == expected, "of concurrent adders none is lost")
}

async fn lists_a_subjects_record_keys(rows: &dyn WrappedKeys, ctx: &Ctx) -> Verdict {
    let (subject, practice) = (SubjectId::generate(ctx), Some(PracticeId::generate(ctx)));
    holds(same(&rows.record_keys(subject).await, &Vec::new()), "there is none at first")?;
    for (practice, version) in [(practice, 2), (None, 1), (practice, 1)] {
        given(rows.insert_record_key(subject, practice, &key(version, b"x")).await, "insert_record_key")?;
    }
    given(rows.add_uses(subject, practice, 2, 7).await, "add_uses")?;
    let expected = vec![
        RecordKeyRow { practice: None, version: 1, uses: 0 },
        RecordKeyRow { practice, version: 1, uses: 0 },
        RecordKeyRow { practice, version: 2, uses: 7 },
    ];
    holds(same(&rows.record_keys(subject).await, &expected), "all are listed, by practice and version")
}

async fn keeps_subject_secrets(rows: &dyn WrappedKeys, ctx: &Ctx) -> Verdict {
    let (one, two) = (SubjectId::generate(ctx), SubjectId::generate(ctx));
    let secret = SubjectSecret::Pseudonym;
    holds(same(&rows.subject_secret(one, secret).await, &None), "there is none at first")?;
    let stands = rows.insert_subject_secret(one, secret, b"first").await;
    holds(same(&stands, &b"first".to_vec()), "the first insert stands")?;
    let stands = rows.insert_subject_secret(one, secret, b"late").await;
    holds(same(&stands, &b"first".to_vec()), "an insert never replaces")?;
    holds(same(&rows.subject_secret(one, SubjectSecret::Fingerprint).await, &None), "secrets are apart")?;
    holds(same(&rows.subject_secret(two, secret).await, &None), "subjects are apart")?;
    for subject in [one, two] {
        given(rows.replace_subject_secret(subject, secret, b"came").await, "replace_subject_secret")?;
        let stands = rows.subject_secret(subject, secret).await;
        holds(same(&stands, &Some(b"came".to_vec())), "a replacement stands, also where none was")?;
    }
    Ok(())
}

async fn keeps_transfer_keys(rows: &dyn WrappedKeys, ctx: &Ctx) -> Verdict {
    let (one, two) = (TransferId::generate(ctx), TransferId::generate(ctx));
    let (travel, private) = (TransferKey::Travel, TransferKey::HpkePrivate);
    holds(same(&rows.transfer_key(one, travel).await, &None), "there is none at first")?;
    let stands = rows.insert_transfer_key(one, travel, b"first").await;
    holds(same(&stands, &b"first".to_vec()), "the first insert stands")?;
    let stands = rows.insert_transfer_key(one, travel, b"late").await;
    holds(same(&stands, &b"first".to_vec()), "an insert never replaces")?;
    given(rows.insert_transfer_key(one, private, b"private").await, "insert the other key")?;
    given(rows.insert_transfer_key(two, travel, b"other").await, "insert another transfer's")?;
    holds(same(&rows.destroy_transfer_key(one, travel).await, &true), "there was one to destroy")?;
    holds(same(&rows.destroy_transfer_key(one, travel).await, &false), "and then none")?;
    holds(same(&rows.transfer_key(one, travel).await, &None), "it is gone")?;
    holds(same(&rows.transfer_key(one, private).await, &Some(b"private".to_vec())), "the other key stays")?;
    holds(same(&rows.transfer_key(two, travel).await, &Some(b"other".to_vec())), "the other transfer's stays")
}

async fn keeps_region_keys(rows: &dyn WrappedKeys) -> Verdict {
    holds(same(&rows.region_key(Purpose::BlindIndex).await, &None), "there is none at first")?;
    let stands = rows.insert_region_key(Purpose::BlindIndex, b"first").await;
    holds(same(&stands, &b"first".to_vec()), "the first insert stands")?;
    let stands = rows.insert_region_key(Purpose::BlindIndex, b"late").await;
    holds(same(&stands, &b"first".to_vec()), "an insert never replaces")?;
    holds(same(&rows.region_key(Purpose::Accounts).await, &None), "purposes are apart")?;
    holds(same(&rows.region_key(Purpose::BlindIndex).await, &Some(b"first".to_vec())), "it stays")
}

async fn has_one_winner(rows: &dyn WrappedKeys, ctx: &Ctx) -> Verdict {
    let (subject, transfer) = (SubjectId::generate(ctx), TransferId::generate(ctx));
    let keys: Vec<_> = (0..8_u8).map(|racer| key(1, &[racer])).collect();
    let inserts = keys.iter().map(|key| rows.insert_record_key(subject, None, key)).collect();
    holds(agree(&all(inserts).await), "concurrent makers of a record key use one")?;
    let inserts = keys.iter().map(|key| rows.insert_practice_key(practice_of(subject), key)).collect();
    holds(agree(&all(inserts).await), "concurrent makers of a wrapping key use one")?;
    let insert = |key: &'_ WrappedKey| {
        let wrapped = key.wrapped.clone();
        async move { rows.insert_subject_secret(subject, SubjectSecret::Pseudonym, &wrapped).await }
    };
    holds(agree(&all(keys.iter().map(insert).collect()).await), "concurrent makers of a secret use one")?;
    let insert = |key: &'_ WrappedKey| {
        let wrapped = key.wrapped.clone();
        async move { rows.insert_transfer_key(transfer, TransferKey::Travel, &wrapped).await }
    };
    holds(agree(&all(keys.iter().map(insert).collect()).await), "concurrent makers of a travel key use one")
}

fn practice_of(subject: SubjectId) -> Option<PracticeId> {
    Some(PracticeId::from_uuid(subject.uuid()))
}

fn agree<T: PartialEq>(outcomes: &[Result<T>]) -> bool {
    let first = outcomes.first().and_then(|outcome| outcome.as_ref().ok());
    first.is_some_and(|first| outcomes.iter().all(|outcome| same(outcome, first)))
}

async fn destroys_one_subject(rows: &dyn WrappedKeys, ctx: &Ctx) -> Verdict {
    let (gone, stays) = (SubjectId::generate(ctx), SubjectId::generate(ctx));
    for subject in [gone, stays] {
        for practice in [None, practice_of(gone)] {
            given(rows.insert_record_key(subject, practice, &key(1, b"x")).await, "insert_record_key")?;
            given(rows.insert_record_key(subject, practice, &key(2, b"x")).await, "insert_record_key")?;
        }
        for secret in SubjectSecret::ALL {
            given(rows.insert_subject_secret(subject, *secret, b"x").await, "insert_subject_secret")?;
        }
    }
    given(rows.insert_practice_key(practice_of(gone), &key(1, b"p")).await, "insert_practice_key")?;
    holds(same(&rows.count_subject(gone).await, &6), "four record keys and two secrets")?;
    let listed = given(rows.subject_keys(gone).await, "subject_keys")?;
    let later = given(rows.insert_record_key(gone, None, &key(3, b"later")).await, "insert_record_key")?;
    holds(same(&rows.destroy_subject(gone, &listed).await, &6), "all that were listed are destroyed")?;
    holds(same(&rows.record_key(gone, None).await, &Some(later)), "one made after the listing stays")?;
    let listed = given(rows.subject_keys(gone).await, "subject_keys")?;
    holds(same(&rows.destroy_subject(gone, &listed).await, &1), "it goes when it is listed")?;
    holds(same(&rows.count_subject(gone).await, &0), "none is left")?;
    holds(same(&rows.destroy_subject(gone, &listed).await, &0), "once is enough")?;
    holds(same(&rows.record_key(gone, None).await, &None), "the newest is gone")?;
    holds(same(&rows.record_key_at(gone, None, 1).await, &None), "each version is gone")?;
    holds(same(&rows.record_keys(gone).await, &Vec::new()), "nothing is listed")?;
    holds(same(&rows.subject_secret(gone, SubjectSecret::Pseudonym).await, &None), "secrets are gone")?;
    holds(same(&rows.add_uses(gone, None, 1, 1).await, &None), "nothing can be used")?;
    holds(same(&rows.count_subject(stays).await, &6), "another subject keeps all")?;
    let practice = given(rows.practice_key(practice_of(gone)).await, "practice_key")?;
    holds(practice.is_some(), "the practice keeps its key")
}

/// Runs futures beside each other, in one task, and collects what they give.
async fn all<F: Future>(futures: Vec<F>) -> Vec<F::Output> {
    let mut running: Vec<_> = futures.into_iter().map(|future| (Box::pin(future), None)).collect();
    let joined = std::future::poll_fn(|cx| {
        let mut pending = false;
        for (future, output) in running.iter_mut().filter(|(_, output)| output.is_none()) {
            match Pin::new(future).poll(cx) {
                Poll::Ready(value) => *output = Some(value),
                Poll::Pending => pending = true,
            }
        }
        if pending { Poll::Pending } else { Poll::Ready(()) }
    });
    pin!(joined).await;
    running.into_iter().filter_map(|(_, output)| output).collect()
}
