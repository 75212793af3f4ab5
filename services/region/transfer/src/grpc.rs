//! The three gRPC services: decode, call, encode.

use std::str::FromStr;

use domicile_types::{Code, Error, RegionId, Result};
use tonic::Status;

mod control;
mod encode;
pub(crate) mod peer;
mod people;

pub use control::ControlService;
pub use peer::PeerService;
pub use people::PeopleService;

fn parse<T: FromStr>(text: &str, field: &'static str) -> Result<T, Status> {
    text.parse().map_err(|_| status(Error::new(Code::InvalidRequest).at(field)))
}

fn status(error: Error) -> Status {
    domicile_rpc::status::to_status(error)
}

/// The region that calls, by its certificate.
fn calling_region<T>(request: &tonic::Request<T>) -> Result<RegionId, Status> {
    let scope = domicile_rpc::scope(request).map_err(status)?;
    scope.actor.region.clone().ok_or_else(|| status(Error::new(Code::PeerUnknown)))
}
