//! How much of what is sent in large is taken in at once: one record's callers cannot use up a region.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use domicile_config::RecordSettings;
use domicile_types::{Code, Error, Result, SubjectId};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes that memory for bundles is counted in.
const UNIT: usize = 64 * 1024;
/// When a refused caller may come back.
const LATER: Duration = Duration::from_secs(1);

/// Places for uploads and imports in this process.
pub(super) struct Intake {
    most: usize,
    taken: Arc<Mutex<BTreeMap<SubjectId, usize>>>,
    memory: Arc<Semaphore>,
}

/// A place for one upload or import; free again when dropped.
pub(super) struct Place {
    subject: SubjectId,
    taken: Arc<Mutex<BTreeMap<SubjectId, usize>>>,
}

impl Intake {
    pub(super) fn new(bounds: &RecordSettings) -> Self {
        Self {
            most: bounds.uploads_at_once,
            taken: Arc::default(),
            memory: Arc::new(Semaphore::new(bounds.import_memory / UNIT)),
        }
    }

    /// A place for an upload or an import into this record.
    ///
    /// # Errors
    /// [`Code::Overloaded`] when as many as allowed are under way.
    pub(super) fn enter(&self, subject: SubjectId) -> Result<Place> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let count = taken.entry(subject).or_default();
        if *count >= self.most {
            return Err(Error::new(Code::Overloaded).at("uploads_at_once").retry_after(LATER));
        }
        *count += 1;
        Ok(Place { subject, taken: Arc::clone(&self.taken) })
    }

    /// Memory for one bundle, none of it taken yet.
    pub(super) fn memory(&self) -> Memory {
        Memory { all: Arc::clone(&self.memory), mine: Vec::new(), units: 0 }
    }
}

/// What one bundle holds of the memory for bundles: as much as has come of it, so that a slow caller
/// keeps nobody out. Free again when dropped.
pub(super) struct Memory {
    all: Arc<Semaphore>,
    mine: Vec<OwnedSemaphorePermit>,
    units: usize,
}

impl Memory {
    /// Takes what is missing to hold this many bytes.
    ///
    /// # Errors
    /// [`Code::Overloaded`] when the memory for bundles is in use.
    pub(super) fn hold(&mut self, bytes: usize) -> Result<()> {
        let full = || Error::new(Code::Overloaded).at("import_memory").retry_after(LATER);
        let more = bytes.div_ceil(UNIT).saturating_sub(self.units);
        if more > 0 {
            let count = u32::try_from(more).map_err(|_| full())?;
            self.mine.push(Arc::clone(&self.all).try_acquire_many_owned(count).map_err(|_| full())?);
            self.units += more;
        }
        Ok(())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = taken.get_mut(&self.subject) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.subject);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bundles_hold_what_has_come_of_them() {
        let bounds = RecordSettings { import_memory: 4 * UNIT, ..RecordSettings::default() };
        let intake = Intake::new(&bounds);
        let (mut slow, mut large) = (intake.memory(), intake.memory());
        slow.hold(1).unwrap();
        slow.hold(2).unwrap();
        large.hold(3 * UNIT).unwrap();
        assert_eq!(large.hold(3 * UNIT + 1).err().unwrap().code(), Code::Overloaded);
        drop(slow);
        large.hold(4 * UNIT).unwrap();
    }

    #[test]
    fn a_record_has_so_many_places_and_no_more() {
        let intake = Intake::new(&RecordSettings { uploads_at_once: 2, ..RecordSettings::default() });
        let [one, other] = [1_u128, 2].map(|id| SubjectId::from_uuid(uuid::Uuid::from_u128(id)));
        let first = intake.enter(one).unwrap();
        let second = intake.enter(one).unwrap();
        let refused = intake.enter(one).err().unwrap();
        assert_eq!((refused.code(), refused.wait()), (Code::Overloaded, Some(LATER)));
        let elsewhere = intake.enter(other).unwrap();
        drop(first);
        let third = intake.enter(one).unwrap();
        drop((second, third, elsewhere));
        assert!(intake.taken.lock().unwrap().is_empty());
    }
}
