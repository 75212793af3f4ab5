//! Uploads in flight in this process, so that a freeze can end them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use domicile_types::{ObjectId, SubjectId};
use tokio_util::sync::CancellationToken;

type Flights = BTreeMap<SubjectId, BTreeMap<ObjectId, CancellationToken>>;

/// The uploads in flight.
#[derive(Default)]
pub(super) struct Uploads(Mutex<Flights>);

/// One upload in flight; dropping it takes it off the list.
pub(super) struct Flight {
    uploads: Arc<Uploads>,
    subject: SubjectId,
    object: ObjectId,
    pub(super) ended: CancellationToken,
}

impl Uploads {
    pub(super) fn begin(self: &Arc<Self>, subject: SubjectId, object: ObjectId) -> Flight {
        let ended = CancellationToken::new();
        self.lock().entry(subject).or_default().insert(object, ended.clone());
        Flight { uploads: Arc::clone(self), subject, object, ended }
    }

    /// Tells every upload of the record to end.
    pub(super) fn end(&self, subject: SubjectId) {
        for ended in self.lock().get(&subject).into_iter().flat_map(BTreeMap::values) {
            ended.cancel();
        }
    }

    pub(super) fn in_flight(&self, subject: SubjectId, object: ObjectId) -> bool {
        self.lock().get(&subject).is_some_and(|flights| flights.contains_key(&object))
    }

    fn lock(&self) -> MutexGuard<'_, Flights> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        let mut flights = self.uploads.lock();
        if let Some(of_subject) = flights.get_mut(&self.subject) {
            of_subject.remove(&self.object);
            if of_subject.is_empty() {
                flights.remove(&self.subject);
            }
        }
    }
}
