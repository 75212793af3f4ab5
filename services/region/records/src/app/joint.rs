//! A joint session: one item for each participant, each in its own record and its own transaction.

use std::sync::Arc;

use domicile_crypto::sha256;
use domicile_proto::records::v1 as pb;
use domicile_store::AuditFacts;
use domicile_types::{AccountId, AuditScope, Code, Error, OccasionId, Result, SubjectId};

use super::draft::{Draft, only_new};
use super::put::Write;
use super::{Records, Who};
use crate::kinds;
use crate::wire::{self, id, idempotency_key, invalid};

/// Participants at most.
const PARTICIPANTS: usize = 64;

impl Records {
    /// Writes one item for each participant, sealed for them alone. A record that is frozen, moved or not
    /// in the caller's caseload fails alone and says so.
    ///
    /// # Errors
    /// What is wrong with the request as a whole, and [`Code::AuditUnavailable`].
    pub async fn put_joint_item(
        &self,
        audit: &Arc<AuditScope>,
        request: pb::PutJointItemRequest,
    ) -> Result<pb::PutJointItemResponse> {
        let account = audit.actor.account()?;
        let subjects = participants(&request.subject_ids)?;
        let key = idempotency_key(request.idempotency_key)?;
        let body = request.draft.as_ref().map(prost::Message::encode_to_vec).unwrap_or_default();
        let draft = Draft::read(request.draft)?;
        only_new(&draft)?;
        if draft.parent.is_some() {
            return Err(invalid("draft.parent_id"));
        }
        if kinds::object_ref(&mut draft.payload.clone()).is_some() {
            return Err(invalid("draft.payload"));
        }
        let occasion = occasion(account, &key);
        let mut results = Vec::with_capacity(subjects.len());
        for subject in subjects {
            let one = Joint { key: &key, body: &body, draft: &draft, occasion };
            results.push(self.put_one(audit, subject, one).await?);
        }
        // Each participant has an entry of their own.
        audit.mark_recorded();
        Ok(pb::PutJointItemResponse { occasion_id: occasion.to_string(), results })
    }

    async fn put_one(
        &self,
        audit: &Arc<AuditScope>,
        subject: SubjectId,
        joint: Joint<'_>,
    ) -> Result<pb::JointResult> {
        let own = AuditScope::new(audit.event, audit.actor.clone(), audit.request);
        let who = Who::of(&audit.actor, subject)?;
        let write = Write {
            who,
            key: joint.key.to_owned(),
            request: ("joint", joint.body.to_vec()),
            draft: joint.draft.clone(),
            occasion: Some(joint.occasion),
            object: None,
        };
        let mut result = pb::JointResult { subject_id: subject.to_string(), ..Default::default() };
        match self.write_item(&own, write).await {
            Ok(header) => {
                result.header = Some(wire::header(&header));
                if !own.is_recorded() {
                    self.store().audit_now(&own, AuditFacts::ok().item(header.item_id)).await?;
                }
            }
            Err(error) => {
                let error = self.elsewhere(&audit.actor, subject, error).await;
                result.error_code = error.code().as_str().to_owned();
                result.moved_to = error.moved().map(|(region, _)| region.to_string()).unwrap_or_default();
                self.store().audit_now(&own, AuditFacts::outcome(Err(error.code()))).await?;
            }
        }
        Ok(result)
    }
}

/// What every participant's copy has in common.
struct Joint<'a> {
    key: &'a str,
    body: &'a [u8],
    draft: &'a Draft,
    occasion: OccasionId,
}

fn participants(texts: &[String]) -> Result<Vec<SubjectId>> {
    if texts.len() > PARTICIPANTS {
        return Err(Error::new(Code::TooLarge).at("subject_ids"));
    }
    let subjects: Vec<SubjectId> = texts.iter().map(|text| id("subject_ids", text)).collect::<Result<_>>()?;
    let apart: std::collections::BTreeSet<_> = subjects.iter().collect();
    if subjects.len() < 2 || apart.len() < subjects.len() {
        Err(invalid("subject_ids"))
    } else {
        Ok(subjects)
    }
}

/// The same for every copy and every repetition of a request, so that it needs no place of its own.
fn occasion(account: AccountId, key: &str) -> OccasionId {
    let digest = sha256(&[b"domicile/occasion/1".as_slice(), account.as_bytes(), key.as_bytes()].concat());
    let mut bytes = [0; 16];
    bytes.iter_mut().zip(digest).for_each(|(to, from)| *to = from);
    OccasionId::from_uuid(uuid::Builder::from_random_bytes(bytes).into_uuid())
}
