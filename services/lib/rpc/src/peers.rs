//! Who a peer is: the SPIFFE ID in its certificate, compared whole with a list.

use std::collections::BTreeMap;

use domicile_config::{CoordinatorSettings, RegionSettings, SpiffeId};
use domicile_types::{Actor, RegionId, Role};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// The peers a process talks to, by the names in their certificates.
#[derive(Clone, Debug, Default)]
pub struct Peers(BTreeMap<SpiffeId, Actor>);

impl Peers {
    /// Nobody.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// With a region under this name.
    #[must_use]
    pub fn region(mut self, name: SpiffeId, region: RegionId) -> Self {
        self.0.insert(name, Actor { region: Some(region), ..Actor::of(Role::Region) });
        self
    }

    /// With the coordinator under this name.
    #[must_use]
    pub fn coordinator(mut self, name: SpiffeId) -> Self {
        self.0.insert(name, Actor::of(Role::Coordinator));
        self
    }

    /// With an operator under this name.
    #[must_use]
    pub fn operator(mut self, name: SpiffeId) -> Self {
        self.0.insert(name, Actor::of(Role::Operator));
        self
    }

    /// The peers of a region: the other regions and the coordinator.
    #[must_use]
    pub fn of_region(settings: &RegionSettings) -> Self {
        let peers = Self::new().coordinator(settings.coordinator.spiffe.clone());
        let regions = settings.peer.iter();
        regions.fold(peers, |peers, peer| peers.region(peer.spiffe.clone(), peer.region.clone()))
    }

    /// The peers of the coordinator: the regions and the operators.
    #[must_use]
    pub fn of_coordinator(settings: &CoordinatorSettings) -> Self {
        let regions = settings.region.iter();
        let peers =
            regions.fold(Self::new(), |peers, peer| peers.region(peer.spiffe.clone(), peer.region.clone()));
        settings.operators.iter().fold(peers, |peers, name| peers.operator(name.clone()))
    }

    /// The actor behind a certificate's name.
    #[must_use]
    pub fn find(&self, name: &SpiffeId) -> Option<&Actor> {
        self.0.get(name)
    }
}

/// The SPIFFE ID of a leaf certificate: the only URI among its names (X.509-SVID §2), of a certificate
/// that is no authority.
pub(crate) fn spiffe_id(certificate: &[u8]) -> Option<SpiffeId> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    if certificate.is_ca() {
        return None;
    }
    let names = certificate.subject_alternative_name().ok()??;
    let mut uris = names.value.general_names.iter().filter_map(|name| match name {
        GeneralName::URI(uri) => Some(*uri),
        _ => None,
    });
    match (uris.next(), uris.next()) {
        (Some(uri), None) => SpiffeId::parse(uri),
        _ => None,
    }
}
