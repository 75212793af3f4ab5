//! Listing and deleting, with every version there is.

use std::collections::BTreeSet;
use std::time::Duration;

use domicile_types::Result;

use super::S3;
use super::failure::{Call, explain};
use crate::{ObjectName, ObjectPrefix};

/// An unfinished upload of this age is nobody's any more.
const ABANDONED: Duration = Duration::from_secs(86_400);

/// One version of an object, or the mark of a deletion.
struct Version {
    key: String,
    id: Option<String>,
    is_mark: bool,
}

/// Where the next page begins.
#[derive(Clone, Default)]
struct Place {
    key: Option<String>,
    version: Option<String>,
}

impl S3 {
    pub(super) async fn list_names(&self, prefix: &ObjectPrefix) -> Result<Vec<ObjectName>> {
        let under = match prefix.as_str() {
            "" => self.prefix.clone(),
            prefix => format!("{}{prefix}/", self.prefix),
        };
        let mut names = BTreeSet::new();
        let mut place = Some(Place::default());
        while let Some(from) = place {
            let (versions, next) = self.versions(&under, from).await?;
            let contents = versions.iter().filter(|version| !version.is_mark);
            names.extend(contents.filter_map(|version| self.name(&version.key)));
            place = next;
        }
        Ok(names.into_iter().collect())
    }

    pub(super) async fn delete_versions(&self, name: &ObjectName) -> Result<()> {
        let key = self.key(name);
        let mut place = Some(Place::default());
        while let Some(from) = place {
            let (versions, next) = self.versions(&key, from).await?;
            // Sorted by key: behind the first longer one there is none of this key.
            let past = versions.last().is_some_and(|version| version.key > key);
            for version in versions.into_iter().filter(|version| version.key == key) {
                let request = self.client.delete_object().bucket(&self.bucket).key(&key);
                let deleted = request.set_version_id(version.id).send().await;
                deleted.map_err(|error| explain(Call::Delete, &error))?;
            }
            place = next.filter(|_| !past);
        }
        Ok(())
    }

    /// One page of versions under a prefix of keys, and where the next begins.
    async fn versions(&self, under: &str, from: Place) -> Result<(Vec<Version>, Option<Place>)> {
        let request = self.client.list_object_versions().bucket(&self.bucket).prefix(under);
        let request = request.set_key_marker(from.key).set_version_id_marker(from.version);
        let answer = request.send().await.map_err(|error| explain(Call::ListVersions, &error))?;
        let next = Place { key: answer.next_key_marker, version: answer.next_version_id_marker };
        let next = (answer.is_truncated == Some(true) && next.key.is_some()).then_some(next);
        let contents = answer.versions.unwrap_or_default().into_iter();
        let contents = contents.map(|found| (found.key, found.version_id, false));
        let marks = answer.delete_markers.unwrap_or_default().into_iter();
        let marks = marks.map(|found| (found.key, found.version_id, true));
        let mut versions: Vec<_> = contents
            .chain(marks)
            .filter_map(|(key, id, is_mark)| Some(Version { key: key?, id, is_mark }))
            .collect();
        versions.sort_by(|one, two| one.key.cmp(&two.key));
        Ok((versions, next))
    }

    /// Removes what a crash left of uploads; those of other replicas that run now are younger.
    pub(super) async fn remove_unfinished(&self) -> Result<()> {
        let before = self.ctx.clock.now().minus(ABANDONED).millis();
        let mut place = Some(Place::default());
        while let Some(from) = place {
            let request = self.client.list_multipart_uploads().bucket(&self.bucket).prefix(&self.prefix);
            let request = request.set_key_marker(from.key).set_upload_id_marker(from.version);
            let answer = request.send().await.map_err(|error| explain(Call::ListUploads, &error))?;
            for upload in answer.uploads.unwrap_or_default() {
                let begun = upload.initiated.and_then(|begun| begun.to_millis().ok());
                if let (Some(key), Some(id)) = (upload.key, upload.upload_id)
                    && begun.is_some_and(|begun| begun < before)
                    && self.name(&key).is_some()
                {
                    self.give_up(&key, &id).await;
                }
            }
            let next = Place { key: answer.next_key_marker, version: answer.next_upload_id_marker };
            place = (answer.is_truncated == Some(true) && next.key.is_some()).then_some(next);
        }
        Ok(())
    }
}
