//! What people and operators send: requests, FHIR, files of configuration.

use domicile_config::{CoordinatorSettings, RegionPolicy, RegionSettings};
use domicile_evidence::policy::Policy;
use domicile_proto::records::v1 as pb;
use domicile_records::outside::{around, cut, kind, place, token};
use domicile_types::{Class, Code};
use prost::Message as _;

/// A FHIR bundle: every entry is a piece of the text, and the envelope opens where they stood.
pub(super) fn fhir(data: &[u8]) -> bool {
    match cut(data) {
        Ok(bundle) => {
            let text = std::str::from_utf8(data).expect("it was read");
            for entry in &bundle.entries {
                assert!(text.contains(&entry.json), "an entry that was not in the text");
            }
            around(&bundle.envelope).expect("the envelope opens");
            true
        }
        Err(error) => {
            assert_eq!(error.code(), Code::FhirInvalid);
            assert!(error.place().is_some(), "the place is named");
            false
        }
    }
}

/// A request to write an item, and a page token.
pub(super) fn request(data: &[u8]) -> bool {
    if let Some((at, item)) = std::str::from_utf8(data).ok().and_then(place) {
        assert_eq!(place(&token(&at, item)), Some((at, item)));
    }
    let Ok(request) = pb::PutItemRequest::decode(data) else { return false };
    match kind(request.draft) {
        Ok(_) => true,
        Err(error) => {
            assert!(matches!(error.class(), Class::InvalidArgument | Class::OutOfRange), "{error}");
            false
        }
    }
}

/// A region's rules.
pub(super) fn region_policy(data: &[u8]) -> bool {
    configured(data, |text| RegionPolicy::parse(text).map(drop))
}

/// Settings of a region or of a coordinator.
pub(super) fn settings(data: &[u8]) -> bool {
    let region = configured(data, |text| RegionSettings::parse(text).map(drop));
    configured(data, |text| CoordinatorSettings::parse(text).map(drop)) || region
}

fn configured(data: &[u8], parse: impl Fn(&str) -> domicile_types::Result<()>) -> bool {
    let Ok(text) = std::str::from_utf8(data) else { return false };
    match parse(text) {
        Ok(()) => true,
        Err(error) => {
            assert!(error.code().as_str().starts_with("DOM-CONFIG-"), "{error}");
            assert!(error.place().is_some(), "the key is named");
            false
        }
    }
}

/// What an auditor demands of a log.
pub(super) fn auditor_policy(data: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(data) else { return false };
    match Policy::parse(text) {
        Ok(policy) => {
            assert_eq!(Policy::parse(&policy.to_json()).as_ref(), Ok(&policy));
            true
        }
        Err(_) => false,
    }
}
