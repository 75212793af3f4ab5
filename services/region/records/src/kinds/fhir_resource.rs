//! An imported FHIR R4 resource as it came, or the bundle that brought it.

use domicile_proto::records::v1::{FhirResource, Payload, payload};
use domicile_types::Visibility;

use super::{Editors, Kind, Writers};

pub(super) const KIND: Kind = Kind {
    name: "fhir_resource",
    schema: 1,
    states: &["imported"],
    locked: &["imported"],
    signed: None,
    visibilities: &[Visibility::Shared],
    writers: Writers::Import,
    editors: Editors::Nobody,
};

/// The payload of one entry of a bundle: its JSON text as it came.
pub(crate) fn entry_payload(resource_type: String, position: u32, json: Vec<u8>) -> Payload {
    let resource = FhirResource { resource_type, position, json, entries: 0 };
    Payload { kind: Some(payload::Kind::FhirResource(resource)) }
}

/// The payload of the bundle: everything but its entries' content.
pub(crate) fn bundle_payload(json: Vec<u8>, entries: u32) -> Payload {
    let resource = FhirResource { resource_type: "Bundle".to_owned(), position: 0, json, entries };
    Payload { kind: Some(payload::Kind::FhirResource(resource)) }
}
