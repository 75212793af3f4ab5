//! The regions' control services, and their views as the plan reads them.

use std::collections::BTreeMap;
use std::sync::Arc;

use domicile_config::CoordinatorSettings;
use domicile_proto::transfer::v1 as pb;
use domicile_proto::transfer::v1::transfer_control_service_client::TransferControlServiceClient;
use domicile_rpc::client::{self, Channel, ClientIdentity, Endpoint, ServerIdentity};
use domicile_rpc::{Net, Pem};
use domicile_transfer_protocol::{State, plan};
use domicile_types::{Code, Error, RegionId, Result, Timestamp, TransferId};

/// A client of one region's control service.
pub(crate) type Control = TransferControlServiceClient<Channel>;

/// Every region's control service.
#[derive(Clone)]
pub(crate) struct Regions(BTreeMap<RegionId, Control>);

/// A transfer as one region shows it.
#[derive(Clone, Debug)]
pub(crate) struct RegionView {
    /// From.
    pub(crate) source: RegionId,
    /// To.
    pub(crate) destination: RegionId,
    /// The attempt.
    pub(crate) attempt: u64,
    /// What the plan reads.
    pub(crate) plan: plan::View,
}

/// A message of the other region's statements may not be larger.
const MESSAGE: usize = 4 * 1024 * 1024;

impl Regions {
    /// Clients of every configured region; connects to nothing yet.
    ///
    /// # Errors
    /// Configuration errors: certificates or addresses that do not fit.
    pub(crate) fn connect(settings: &CoordinatorSettings, net: &Arc<dyn Net>) -> Result<Self> {
        let identity = ClientIdentity {
            certificate: Pem::file(&settings.peers.certificate),
            key: Pem::file(&settings.peers.key),
        };
        let mut regions = BTreeMap::new();
        for region in &settings.region {
            let endpoint = Endpoint {
                uri: region.endpoint.clone(),
                server: ServerIdentity::Spiffe(region.spiffe.clone()),
                authority: Pem::file(&settings.peers.authority),
                identity: Some(identity.clone()),
            };
            let channel = client::connect(endpoint, Arc::clone(net))?;
            regions.insert(region.region.clone(), Control::new(channel).max_decoding_message_size(MESSAGE));
        }
        Ok(Self(regions))
    }

    /// The regions' names.
    pub(crate) fn names(&self) -> impl Iterator<Item = &RegionId> {
        self.0.keys()
    }

    /// A region's client.
    ///
    /// # Errors
    /// [`Code::PeerUnknown`] for a region nobody configured.
    pub(crate) fn control(&self, region: &RegionId) -> Result<Control> {
        self.0.get(region).cloned().ok_or_else(|| Error::new(Code::PeerUnknown).at(region.as_str()))
    }

    /// A transfer as a region shows it; `None` when it does not know it.
    ///
    /// # Errors
    /// The region's answer, or [`Code::PeerSilent`].
    pub(crate) async fn view(&self, region: &RegionId, transfer: TransferId) -> Result<Option<RegionView>> {
        let request = pb::GetViewRequest { transfer_id: transfer.to_string() };
        let answer = self.control(region)?.get_view(request).await.map_err(|status| peer_error(&status))?;
        answer.into_inner().view.as_ref().map(read_view).transpose()
    }
}

/// What a region answered; one that cannot be reached is [`Code::PeerSilent`].
pub(crate) fn peer_error(status: &tonic::Status) -> Error {
    if status.metadata().get("domicile-code").is_some() {
        domicile_rpc::status::from_status(status)
    } else {
        Error::new(Code::PeerSilent).because(status.to_string())
    }
}

/// Reads a view.
///
/// # Errors
/// [`Code::InvalidRequest`] when a region shows something this release does not understand.
pub(crate) fn read_view(view: &pb::View) -> Result<RegionView> {
    let wrong = |place: &'static str| Error::new(Code::InvalidRequest).at(place);
    let region = |name: &str| RegionId::new(name).map_err(|_| wrong("region"));
    Ok(RegionView {
        source: region(&view.source)?,
        destination: region(&view.destination)?,
        attempt: view.attempt,
        plan: plan::View {
            state: state(view.state()).ok_or_else(|| wrong("state"))?,
            own_sequence: view.own_sequence,
            peer_sequence: view.peer_sequence,
            close: view.close,
            busy: view.busy,
            cursor: view.cursor,
            revision: view.revision,
            objects_missing: view.objects_missing,
            compare: view.compare,
            paused: view.paused,
            refused: Some(view.refused.clone()).filter(|cause| !cause.is_empty()),
            freeze_not_before: Timestamp::from_micros(view.freeze_not_before_micros),
        },
    })
}

const fn state(state: pb::TransferState) -> Option<State> {
    Some(match state {
        pb::TransferState::Unspecified => return None,
        pb::TransferState::Requested => State::Requested,
        pb::TransferState::Preflighted => State::Preflighted,
        pb::TransferState::Consented => State::Consented,
        pb::TransferState::Copying => State::Copying,
        pb::TransferState::Frozen => State::Frozen,
        pb::TransferState::Staged => State::Staged,
        pb::TransferState::Released => State::Released,
        pb::TransferState::Adopted => State::Adopted,
        pb::TransferState::Rekeyed => State::Rekeyed,
        pb::TransferState::Shredded => State::Shredded,
        pb::TransferState::Closed => State::Closed,
        pb::TransferState::Aborting => State::Aborting,
        pb::TransferState::Aborted => State::Aborted,
    })
}
