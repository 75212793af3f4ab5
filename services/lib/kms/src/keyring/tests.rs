use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Waker};
use std::time::Duration;

use async_trait::async_trait;
use domicile_crypto::{DataKey, KeyContext, KeyInfo, SubjectSecret, TransferKey};
use domicile_types::TransferId;
use futures::future::join_all;
use zeroize::Zeroizing;

use super::*;
use crate::LocalKeys;
use crate::testing::MemoryKeys;

/// A key service that counts its calls, and can be away.
struct Counting {
    inner: LocalKeys,
    calls: AtomicUsize,
    away: std::sync::atomic::AtomicBool,
}

impl Counting {
    async fn call(&self) -> Result<()> {
        tokio::task::yield_now().await;
        self.calls.fetch_add(1, Ordering::Relaxed);
        if self.away.load(Ordering::Relaxed) { Err(Error::new(Code::KeyUnavailable)) } else { Ok(()) }
    }

    fn calls(&self) -> usize {
        self.calls.swap(0, Ordering::Relaxed)
    }
}

#[async_trait]
impl KeyService for Counting {
    async fn generate_data_key(&self, context: &KeyContext) -> Result<DataKey> {
        self.call().await?;
        self.inner.generate_data_key(context).await
    }

    async fn wrap(&self, context: &KeyContext, plain: &[u8]) -> Result<Vec<u8>> {
        self.call().await?;
        self.inner.wrap(context, plain).await
    }

    async fn unwrap(&self, context: &KeyContext, wrapped: &[u8]) -> Result<Zeroizing<Vec<u8>>> {
        self.call().await?;
        self.inner.unwrap(context, wrapped).await
    }

    fn describe(&self) -> KeyInfo {
        self.inner.describe()
    }

    async fn health(&self) -> Result<()> {
        self.call().await
    }
}

/// One region: its key service, its key store, and as many replicas as a test asks for.
struct Region {
    ctx: Ctx,
    service: Arc<Counting>,
    rows: Arc<MemoryKeys>,
}

impl Region {
    fn new() -> Self {
        let ctx = Ctx::system();
        let inner = LocalKeys::in_memory(&ctx);
        let service = Arc::new(Counting { inner, calls: AtomicUsize::new(0), away: false.into() });
        Self { ctx, service, rows: Arc::default() }
    }

    fn replica(&self) -> Keyring {
        let region = RegionId::new("eu").unwrap();
        Keyring::new(self.service.clone(), self.rows.clone(), region, self.ctx.clone())
    }

    fn subject(&self) -> SubjectId {
        SubjectId::generate(&self.ctx)
    }

    fn practice(&self) -> Option<PracticeId> {
        Some(PracticeId::generate(&self.ctx))
    }

    async fn uses(&self, subject: SubjectId) -> Vec<(u32, u64)> {
        let rows = self.rows.record_keys(subject).await.unwrap();
        rows.into_iter().map(|row| (row.version, row.uses)).collect()
    }
}

fn code<T: fmt::Debug>(result: Result<T>) -> Code {
    result.unwrap_err().code()
}

#[tokio::test]
async fn the_same_key_comes_back_and_each_record_has_its_own() {
    let region = Region::new();
    let keys = region.replica();
    let (one, two, practice) = (region.subject(), region.subject(), region.practice());
    let (version, key) = keys.record_key(one, practice).await.unwrap();
    assert_eq!(version, 1);
    assert_eq!(keys.record_key(one, practice).await.unwrap().1, key);
    assert_eq!(keys.record_key_at(one, practice, 1).await.unwrap(), key);
    assert_eq!(region.replica().record_key_at(one, practice, 1).await.unwrap(), key);
    for (subject, practice) in [(one, None), (two, practice), (one, region.practice())] {
        assert_ne!(keys.record_key(subject, practice).await.unwrap().1, key);
    }
}

/// data-model.md, "Keys": a key is committed in the key store before its first use, and insert-if-absent
/// gives every racer the winner's.
#[tokio::test]
async fn concurrent_first_use_gives_one_key() {
    let region = Region::new();
    let (subject, practice) = (region.subject(), region.practice());
    let replicas: Vec<_> = (0..8).map(|_| region.replica()).collect();
    let uses = replicas.iter().flat_map(|replica| (0..4).map(move |_| replica.record_key(subject, practice)));
    let keys: Vec<_> = join_all(uses).await.into_iter().map(Result::unwrap).collect();
    assert_eq!(keys.len(), 32);
    assert!(keys.iter().all(|key| *key == keys[0]));
    assert_eq!(region.replica().record_key_at(subject, practice, 1).await.unwrap(), keys[0].1);
    assert_eq!(region.uses(subject).await, [(1, 8 * FIRST_BLOCK)]);
}

#[tokio::test]
async fn a_caseload_costs_one_call_of_the_key_service() {
    let region = Region::new();
    let practice = region.practice();
    let subjects: Vec<_> = (0..200).map(|_| region.subject()).collect();
    let first = region.replica();
    join_all(subjects.iter().map(|subject| first.record_key(*subject, practice))).await;
    assert_eq!(region.service.calls(), 1);
    let second = region.replica();
    for key in join_all(subjects.iter().map(|subject| second.record_key_at(*subject, practice, 1))).await {
        key.unwrap();
    }
    assert_eq!(region.service.calls(), 1);
}

#[tokio::test]
async fn a_key_in_memory_costs_no_call_and_no_wait() {
    let region = Region::new();
    let keys = region.replica();
    let subject = region.subject();
    keys.record_key(subject, None).await.unwrap();
    region.service.calls();
    for _ in 0..100 {
        let mut again = Box::pin(keys.record_key(subject, None));
        assert!(again.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready());
    }
    assert_eq!(region.service.calls(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_unwrapped_key_lives_five_minutes_at_most() {
    let region = Region::new();
    let keys = region.replica();
    let (subject, practice) = (region.subject(), region.practice());
    let (_, key) = keys.record_key(subject, practice).await.unwrap();
    keys.region_key(RegionKey::BlindIndex).await.unwrap();
    region.service.calls();
    tokio::time::advance(KEY_LIFE - Duration::from_millis(1)).await;
    keys.record_key(subject, practice).await.unwrap();
    keys.region_key(RegionKey::BlindIndex).await.unwrap();
    assert_eq!(region.service.calls(), 0);
    tokio::time::sleep(Duration::from_millis(2)).await;
    assert_eq!(keys.cache.held(), 0, "being used does not keep a key in memory");
    assert_eq!(keys.record_key(subject, practice).await.unwrap(), (1, key));
    keys.region_key(RegionKey::BlindIndex).await.unwrap();
    assert_eq!(region.service.calls(), 2);
}

#[tokio::test]
async fn uses_are_reserved_in_blocks() {
    let region = Region::new();
    let keys = region.replica();
    let subject = region.subject();
    for _ in 0..FIRST_BLOCK {
        keys.record_key(subject, None).await.unwrap();
    }
    assert_eq!(region.uses(subject).await, [(1, FIRST_BLOCK)]);
    for _ in 0..NEXT_BLOCK {
        keys.record_key(subject, None).await.unwrap();
    }
    assert_eq!(region.uses(subject).await, [(1, FIRST_BLOCK + NEXT_BLOCK)]);
    keys.record_key_for(subject, None, 3 * NEXT_BLOCK).await.unwrap();
    assert_eq!(region.uses(subject).await, [(1, FIRST_BLOCK + 4 * NEXT_BLOCK)]);
    assert_eq!(code(keys.record_key_for(subject, None, MAX_USES + 1).await), Code::TooLarge);
}

#[tokio::test]
async fn a_used_up_version_is_followed_by_a_new_one_and_still_opens() {
    let region = Region::new();
    let subject = region.subject();
    let (_, first) = region.replica().record_key(subject, None).await.unwrap();
    region.rows.add_uses(subject, None, 1, MAX_USES - 2 * FIRST_BLOCK).await.unwrap();
    assert_eq!(region.replica().record_key(subject, None).await.unwrap(), (1, first.clone()));
    let replicas: Vec<_> = (0..4).map(|_| region.replica()).collect();
    let keys = join_all(replicas.iter().map(|replica| replica.record_key(subject, None))).await;
    let keys: Vec<_> = keys.into_iter().map(Result::unwrap).collect();
    assert!(keys.iter().all(|key| *key == keys[0] && key.0 == 2), "all go on to the same version");
    assert_ne!(keys[0].1, first);
    assert_eq!(region.replica().record_key_at(subject, None, 1).await.unwrap(), first);
}

#[tokio::test]
async fn a_destroyed_subject_has_no_key_left() {
    let region = Region::new();
    let keys = region.replica();
    let (gone, stays, practice) = (region.subject(), region.subject(), region.practice());
    for subject in [gone, stays] {
        keys.record_key(subject, None).await.unwrap();
        keys.record_key(subject, practice).await.unwrap();
        keys.subject_secret(subject, SubjectSecret::Pseudonym).await.unwrap();
    }
    assert_eq!(keys.subject_key_count(gone).await.unwrap(), 3);
    let listed = keys.subject_keys(gone).await.unwrap();
    assert_eq!((listed.count(), keys.destroy_subject(gone, &listed).await.unwrap()), (3, 3));
    assert_eq!(keys.subject_key_count(gone).await.unwrap(), 0);
    assert_eq!(code(keys.record_key_at(gone, None, 1).await), Code::KeyDestroyed);
    assert_eq!(code(keys.record_key_at(gone, practice, 1).await), Code::KeyDestroyed);
    assert!(keys.ready_record_key(gone, None).is_none());
    assert_eq!(keys.find_subject_secret(gone, SubjectSecret::Pseudonym).await.unwrap(), None);
    assert_eq!(keys.subject_key_count(stays).await.unwrap(), 3);
    keys.record_key_at(stays, practice, 1).await.unwrap();
}

/// "Every replica acknowledges or its time has passed before a shred": the time is [`KEY_LIFE`].
#[tokio::test(start_paused = true)]
async fn another_replica_forgets_in_time_or_when_told() {
    let region = Region::new();
    let (here, told, slow) = (region.replica(), region.replica(), region.replica());
    let subject = region.subject();
    here.record_key(subject, None).await.unwrap();
    for replica in [&told, &slow] {
        replica.record_key_at(subject, None, 1).await.unwrap();
    }
    here.destroy_subject(subject, &here.subject_keys(subject).await.unwrap()).await.unwrap();
    told.forget_subject(subject);
    assert_eq!(code(told.record_key_at(subject, None, 1).await), Code::KeyDestroyed);
    assert!(slow.record_key_at(subject, None, 1).await.is_ok());
    tokio::time::advance(KEY_LIFE).await;
    assert_eq!(code(slow.record_key_at(subject, None, 1).await), Code::KeyDestroyed);
}

/// A reader that began before the destruction must not put the key back into memory after it.
#[tokio::test]
async fn a_read_under_way_does_not_outlive_a_destruction() {
    let region = Region::new();
    let subject = region.subject();
    region.replica().record_key(subject, None).await.unwrap();
    for polls in 1..12 {
        let keys = region.replica();
        let mut reading = Box::pin(keys.record_key_at(subject, None, 1));
        let mut done = false;
        for _ in 0..polls {
            done = done || reading.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready();
        }
        keys.forget_subject(subject);
        if !done {
            reading.await.unwrap();
        }
        assert!(keys.cache.get(Slot::RecordAt(subject, None, 1)).is_none(), "after {polls} polls");
    }
}

/// A caller that goes away at any point leaves the next one the same key.
#[tokio::test]
async fn callers_may_leave_at_every_point() {
    let region = Region::new();
    let keys = region.replica();
    let mut finished = false;
    for polls in 1.. {
        let (subject, practice) = (region.subject(), region.practice());
        let mut leaving = Box::pin(keys.record_key(subject, practice));
        for _ in 0..polls {
            if leaving.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready() {
                finished = true;
                break;
            }
        }
        drop(leaving);
        let (version, key) = keys.record_key(subject, practice).await.unwrap();
        assert_eq!(region.replica().record_key_at(subject, practice, version).await.unwrap(), key);
        assert_eq!(version, 1);
        if finished {
            return;
        }
    }
}

#[tokio::test]
async fn a_key_moved_to_another_row_does_not_unwrap() {
    let region = Region::new();
    let keys = region.replica();
    let (one, two, practice) = (region.subject(), region.subject(), region.practice());
    keys.record_key(one, practice).await.unwrap();
    let row = region.rows.record_key(one, practice).await.unwrap().unwrap();
    let moved = WrappedKey { version: 2, ..row.clone() };
    region.rows.insert_record_key(two, practice, &row).await.unwrap();
    region.rows.insert_record_key(one, None, &row).await.unwrap();
    region.rows.insert_record_key(one, practice, &moved).await.unwrap();
    // Both wrapping keys exist, so nothing but the place can be what refuses.
    keys.record_key(region.subject(), None).await.unwrap();
    assert_eq!(code(keys.record_key_at(two, practice, 1).await), Code::KeyDenied);
    assert_eq!(code(keys.record_key_at(one, None, 1).await), Code::KeyDenied);
    assert_eq!(code(keys.record_key_at(one, practice, 2).await), Code::KeyDenied);
}

/// Before a source erases, its destination asks for what is stored and not for what it remembers (invariant 8).
#[tokio::test]
async fn keys_at_rest_are_read_whatever_is_in_memory() {
    let region = Region::new();
    let (keys, secret) = (region.replica(), SubjectSecret::Pseudonym);
    let (one, two, practice) = (region.subject(), region.subject(), region.practice());
    let (_, key) = keys.record_key(one, practice).await.unwrap();
    let (_, own) = keys.record_key(one, None).await.unwrap();
    let made = keys.subject_secret(one, secret).await.unwrap();
    keys.subject_secret(two, secret).await.unwrap();
    let at_rest = keys.keys_at_rest(one).await.unwrap();
    assert_eq!(at_rest, [((None, 1), own), ((practice, 1), key)].into());
    let other = region.rows.subject_secret(two, secret).await.unwrap().unwrap();
    region.rows.replace_subject_secret(one, secret, &other).await.unwrap();
    assert_eq!(keys.subject_secret(one, secret).await.unwrap(), made, "remembered");
    assert_eq!(code(keys.keys_at_rest(one).await), Code::KeyDenied);
}

#[tokio::test]
async fn keys_of_another_region_do_not_unwrap() {
    let region = Region::new();
    let (subject, practice) = (region.subject(), region.practice());
    region.replica().record_key(subject, practice).await.unwrap();
    let us = RegionId::new("us").unwrap();
    let other = Keyring::new(region.service.clone(), region.rows.clone(), us, region.ctx.clone());
    assert_eq!(code(other.record_key_at(subject, practice, 1).await), Code::KeyDenied);
}

#[tokio::test]
async fn a_subject_secret_is_made_once_and_asking_makes_none() {
    let region = Region::new();
    let (subject, secret) = (region.subject(), SubjectSecret::Pseudonym);
    assert_eq!(region.replica().find_subject_secret(subject, secret).await.unwrap(), None);
    assert_eq!(region.replica().subject_key_count(subject).await.unwrap(), 0);
    let replicas: Vec<_> = (0..8).map(|_| region.replica()).collect();
    let made = join_all(replicas.iter().map(|replica| replica.subject_secret(subject, secret))).await;
    let made: Vec<_> = made.into_iter().map(Result::unwrap).collect();
    assert!(made.iter().all(|key| *key == made[0]));
    let other = region.replica().subject_secret(subject, SubjectSecret::Fingerprint).await.unwrap();
    assert_ne!(other, made[0]);
}

#[tokio::test]
async fn a_secret_that_came_with_the_record_stands() {
    let region = Region::new();
    let keys = region.replica();
    let (subject, secret) = (region.subject(), SubjectSecret::Pseudonym);
    let own = keys.subject_secret(subject, secret).await.unwrap();
    let came = Key32::generate(&region.ctx);
    for _ in 0..2 {
        keys.set_subject_secret(subject, secret, &came).await.unwrap();
        assert_eq!(keys.subject_secret(subject, secret).await.unwrap(), came);
        assert_eq!(region.replica().subject_secret(subject, secret).await.unwrap(), came);
    }
    assert_ne!(own, came);
}

#[tokio::test]
async fn a_transfer_key_is_the_first_makers_until_it_is_destroyed() {
    let region = Region::new();
    let keys = region.replica();
    let (one, two) = (TransferId::generate(&region.ctx), TransferId::generate(&region.ctx));
    for key in TransferKey::ALL {
        assert_eq!(code(keys.load_transfer_key(one, *key).await), Code::KeyDestroyed);
        let first = keys.store_transfer_key(one, *key, &[1; 32]).await.unwrap();
        let late = keys.store_transfer_key(one, *key, &[2; 32]).await.unwrap();
        assert_eq!((first.as_slice(), late.as_slice()), (&[1; 32][..], &[1; 32][..]));
        assert_eq!(keys.load_transfer_key(one, *key).await.unwrap().as_slice(), [1; 32]);
    }
    assert_eq!(keys.travel_key(one).await.unwrap(), Key32::from_bytes(&[1; 32]));
    let wrapped = region.rows.transfer_key(one, TransferKey::Travel).await.unwrap().unwrap();
    region.rows.insert_transfer_key(two, TransferKey::Travel, &wrapped).await.unwrap();
    assert_eq!(code(keys.travel_key(two).await), Code::KeyDenied);
    assert!(keys.destroy_transfer_key(one, TransferKey::Travel).await.unwrap());
    assert!(!keys.destroy_transfer_key(one, TransferKey::Travel).await.unwrap());
    assert_eq!(code(keys.travel_key(one).await), Code::KeyDestroyed);
    assert!(keys.load_transfer_key(one, TransferKey::HpkePrivate).await.is_ok());
}

#[tokio::test]
async fn region_keys_are_one_for_each_purpose() {
    let region = Region::new();
    let all = [RegionKey::BlindIndex, RegionKey::Accounts, RegionKey::ActorPseudonym];
    let replicas: Vec<_> = (0..4).map(|_| region.replica()).collect();
    let mut seen = Vec::new();
    for key in all {
        let made = join_all(replicas.iter().map(|replica| replica.region_key(key))).await;
        let made: Vec<_> = made.into_iter().map(Result::unwrap).collect();
        assert!(made.iter().all(|other| *other == made[0]));
        assert!(!seen.contains(&made[0]));
        seen.push(made[0].clone());
    }
}

#[tokio::test]
async fn without_the_key_service_nothing_changes_and_it_heals() {
    let region = Region::new();
    let keys = region.replica();
    let (subject, practice) = (region.subject(), region.practice());
    region.service.away.store(true, Ordering::Relaxed);
    assert_eq!(code(keys.record_key(subject, practice).await), Code::KeyUnavailable);
    assert_eq!(code(keys.region_key(RegionKey::Accounts).await), Code::KeyUnavailable);
    assert_eq!(keys.subject_key_count(subject).await.unwrap(), 0);
    assert_eq!(keys.cache.held(), 0);
    region.service.away.store(false, Ordering::Relaxed);
    keys.record_key(subject, practice).await.unwrap();
}
