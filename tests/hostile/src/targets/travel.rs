//! What comes from another region while a record moves.

use std::sync::LazyLock;

use domicile_crypto::sha256;
use domicile_crypto::travel::TravelHeader;
use domicile_proto::transfer::v1 as pb;
use domicile_transfer::arriving::{open_control, open_envelope, read_key_release};
use domicile_transfer_protocol::release::KeyRelease;
use domicile_transfer_protocol::rows::{ControlRows, StagedRow};
use domicile_types::Code;
use prost::Message as _;

use super::messages;
use crate::world::{PRIVATE, World, arrive, arrive_object, staged_page};

static WORLD: LazyLock<World> = LazyLock::new(|| World::new(1));

/// A page: what opens is what was sealed, in its order.
pub(super) fn page(data: &[u8]) -> bool {
    let Some(messages) = messages::<pb::PullPageResponse>(data) else { return false };
    let page = match arrive(&WORLD.route(), &messages) {
        Ok(page) => page,
        Err(error) => {
            assert_eq!(error.code(), Code::ChunkDamaged);
            return false;
        }
    };
    match WORLD.open(&page.rows, &staged_page(&page)) {
        Ok(()) => {
            for row in &page.rows {
                let own = |own: &&StagedRow| sealed(own) == sealed(row);
                assert_eq!(WORLD.rows.iter().filter(own).count(), 1, "nobody has sealed this");
            }
            true
        }
        Err(error) => {
            assert_eq!(error.code(), Code::ChunkDamaged);
            false
        }
    }
}

fn sealed(row: &StagedRow) -> (&[u8], &[u8], u32, u32, u64) {
    (&row.sealed_header, &row.sealed_payload, row.position, row.version, row.revision)
}

/// An object's stream: what opens is the object.
pub(super) fn object(data: &[u8]) -> bool {
    let Some(messages) = messages::<pb::PullObjectResponse>(data) else { return false };
    let object = WORLD.objects[0].sent.object;
    let Ok(staged) = arrive_object(&WORLD.route(), object, &messages) else { return false };
    let chunk = |message: &pb::PullObjectResponse| match &message.part {
        Some(pb::pull_object_response::Part::Chunk(chunk)) => Some(chunk.to_vec()),
        _ => None,
    };
    let chunks: Vec<Vec<u8>> = messages.iter().filter_map(chunk).collect();
    let opens = WORLD.open_object(&staged, &chunks).is_ok();
    assert!(!opens || chunks == WORLD.chunks, "nobody has sealed this");
    opens
}

/// The header of a stream: one encoding alone.
pub(super) fn header(data: &[u8]) -> bool {
    match TravelHeader::decode(data) {
        Ok(header) => {
            assert_eq!(header.encode(), data);
            true
        }
        Err(error) => {
            assert_eq!(error.code(), Code::ChunkDamaged);
            false
        }
    }
}

/// A key release, as it comes and as it is stored: what opens gives this transfer's key.
pub(super) fn key_release(data: &[u8]) -> bool {
    let stored = serde_json::from_slice::<KeyRelease>(data).ok();
    let come =
        || pb::GetKeyReleaseResponse::decode(data).ok().and_then(|message| read_key_release(message).ok());
    let Some(release) = stored.or_else(come) else { return false };
    let mut row = WORLD.destination.clone();
    row.released = row.released.map(|mut released| {
        released.key_release.0 = sha256(&release.encode());
        released
    });
    let Ok(key) = open_envelope(&row, &PRIVATE, &release) else { return false };
    open_control(&row, &key, &release).is_ok()
}

/// Control rows in clear, as they come out of a key release.
pub(super) fn control_rows(data: &[u8]) -> bool {
    let Ok(rows) = serde_json::from_slice::<ControlRows>(data) else { return false };
    let again = serde_json::to_vec(&rows).expect("JSON");
    let read = serde_json::from_slice::<ControlRows>(&again).expect("reads back");
    assert_eq!(serde_json::to_vec(&read).expect("JSON"), again);
    true
}
