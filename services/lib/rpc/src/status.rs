//! Errors as gRPC statuses, and back.
//!
//! The status carries the class as its code, the safe sentence as its message, and in its metadata the
//! stable code (`domicile-code`), the place (`domicile-place`), when to try again (`retry-after-ms`),
//! and where a moved record is (`domicile-region`, `domicile-epoch`). The cause stays in the log.

use std::error::Error as _;
use std::time::Duration;

use domicile_types::{Class, Code, Error, RegionId};
use http::HeaderMap;
use tonic::metadata::{AsciiMetadataValue, MetadataMap};
use tonic::{Code as Grpc, Status};

/// The metadata key of the stable code.
pub const CODE: &str = "domicile-code";
/// The metadata key of the place.
pub const PLACE: &str = "domicile-place";
/// The metadata key of the wait in milliseconds.
pub const RETRY_AFTER: &str = "retry-after-ms";
/// The metadata key of the region a record has moved to.
pub const REGION: &str = "domicile-region";
/// The metadata key of the epoch it has there.
pub const EPOCH: &str = "domicile-epoch";
/// The metadata key of the request's id, on every answer.
pub const REQUEST: &str = "domicile-request";

/// The canonical gRPC code of a class.
#[must_use]
pub const fn grpc_code(class: Class) -> Grpc {
    match class {
        Class::InvalidArgument => Grpc::InvalidArgument,
        Class::OutOfRange => Grpc::OutOfRange,
        Class::NotFound => Grpc::NotFound,
        Class::AlreadyExists => Grpc::AlreadyExists,
        Class::PermissionDenied => Grpc::PermissionDenied,
        Class::Unauthenticated => Grpc::Unauthenticated,
        Class::FailedPrecondition => Grpc::FailedPrecondition,
        Class::Aborted => Grpc::Aborted,
        Class::Unavailable => Grpc::Unavailable,
        Class::ResourceExhausted => Grpc::ResourceExhausted,
        Class::DeadlineExceeded => Grpc::DeadlineExceeded,
        Class::DataLoss => Grpc::DataLoss,
        Class::Internal => Grpc::Internal,
    }
}

/// An error as the caller sees it. Its cause goes to the log here, once.
#[must_use]
#[expect(clippy::needless_pass_by_value, reason = "for `map_err(to_status)`, at the end of every handler")]
pub fn to_status(error: Error) -> Status {
    log(&error);
    let mut metadata = MetadataMap::with_capacity(3);
    put(&mut metadata, CODE, error.code().as_str());
    if let Some(place) = error.place() {
        put(&mut metadata, PLACE, place);
    }
    if let Some(wait) = error.wait() {
        put(&mut metadata, RETRY_AFTER, &wait.as_millis().to_string());
    }
    if let Some((region, epoch)) = error.moved() {
        put(&mut metadata, REGION, region.as_str());
        put(&mut metadata, EPOCH, &epoch.to_string());
    }
    Status::with_metadata(grpc_code(error.class()), error.to_string(), metadata)
}

/// A status of a server of ours as the error it was made from; any other status by its code.
#[must_use]
pub fn from_status(status: &Status) -> Error {
    let text = |key| status.metadata().get(key).and_then(|value| value.to_str().ok());
    let Some(code) = text(CODE).and_then(Code::parse) else { return Error::new(uncoded(status)) };
    let mut error = Error::new(code);
    if let Some(place) = text(PLACE) {
        error = error.at(place);
    }
    if let Some(wait) = text(RETRY_AFTER).and_then(|millis| millis.parse().ok()) {
        error = error.retry_after(Duration::from_millis(wait));
    }
    let epoch = text(EPOCH).and_then(|epoch| epoch.parse().ok());
    match (text(REGION).and_then(|region| RegionId::new(region).ok()), epoch) {
        (Some(region), Some(epoch)) => error.moved_to(region, epoch),
        _ => error,
    }
}

/// What is wrong with a streamed request, as its handler meets it: a message that does not decode or
/// is too large, or a caller that went away.
#[must_use]
pub fn from_stream(status: &Status) -> Error {
    undecodable(status.message()).unwrap_or_else(|| from_status(status))
}

/// The code in an answer's headers; `None` when the answer is not an error.
pub(crate) fn outcome(headers: &HeaderMap) -> Option<Result<Code, Status>> {
    let status = Status::from_header_map(headers).filter(|status| status.code() != Grpc::Ok)?;
    let code = headers.get(CODE).and_then(|code| code.to_str().ok()).and_then(Code::parse);
    Some(code.ok_or(status))
}

/// A refusal that a library below the handlers made: its text is replaced by ours. `None` for
/// UNIMPLEMENTED, which has no code of ours.
pub(crate) fn refined(status: &Status) -> Option<Error> {
    if status.code() == Grpc::Unimplemented {
        return None;
    }
    Some(undecodable(status.message()).unwrap_or_else(|| Error::new(uncoded(status))))
}

/// Messages that do not decode: tonic calls them internal errors, they are the caller's.
fn undecodable(message: &str) -> Option<Error> {
    let framing = ["Missing request message", "Unexpected EOF decoding", "protocol error: received message"];
    if framing.iter().any(|start| message.starts_with(start)) {
        return Some(Error::new(Code::InvalidRequest).at("message"));
    }
    let rest = message.strip_prefix("failed to decode Protobuf message")?;
    let named = |part: &&str| {
        part.contains('.') && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'.' || b == b'_')
    };
    let place = rest.split(": ").map(str::trim).filter(named).last().unwrap_or("message");
    Some(Error::new(Code::InvalidRequest).at(place))
}

fn uncoded(status: &Status) -> Code {
    match status.code() {
        // A connection that broke in mid-stream arrives with the transport's error as its source.
        _ if status.source().is_some() => Code::ServiceSilent,
        Grpc::InvalidArgument | Grpc::Unimplemented => Code::InvalidRequest,
        Grpc::OutOfRange => Code::TooLarge,
        Grpc::NotFound => Code::NotFound,
        Grpc::AlreadyExists | Grpc::Aborted | Grpc::FailedPrecondition => Code::Conflict,
        Grpc::PermissionDenied => Code::Forbidden,
        Grpc::Unauthenticated => Code::Unauthenticated,
        Grpc::Unavailable => Code::ServiceSilent,
        Grpc::ResourceExhausted => Code::Overloaded,
        Grpc::DeadlineExceeded | Grpc::Cancelled => Code::DeadlineExceeded,
        Grpc::DataLoss => Code::ContentDamaged,
        Grpc::Ok | Grpc::Unknown | Grpc::Internal => Code::Internal,
    }
}

fn put(metadata: &mut MetadataMap, key: &'static str, value: &str) {
    if let Ok(value) = value.parse::<AsciiMetadataValue>() {
        metadata.insert(key, value);
    }
}

fn log(error: &Error) {
    let code = error.code().as_str();
    let place = error.place().unwrap_or_default();
    let cause = Causes(error);
    match error.class() {
        Class::Internal | Class::DataLoss => tracing::error!(code, place, %cause, "request failed"),
        Class::Unavailable | Class::ResourceExhausted => {
            tracing::warn!(code, place, %cause, "request failed");
        }
        _ => tracing::debug!(code, place, "request refused"),
    }
}

/// The chain of causes, each once.
struct Causes<'a>(&'a Error);

impl std::fmt::Display for Causes<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut next = self.0.source();
        let mut first = true;
        while let Some(cause) = next {
            write!(f, "{}{cause}", if first { "" } else { ": " })?;
            first = false;
            next = cause.source();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_comes_back_whole() {
        for &code in Code::ALL {
            let eu = RegionId::new("eu").unwrap();
            let sent = Error::new(code)
                .at("a.place")
                .retry_after(Duration::from_millis(250))
                .moved_to(eu.clone(), 7);
            let status = to_status(sent);
            assert_eq!(status.code(), grpc_code(code.class()));
            let got = from_status(&status);
            assert_eq!(
                (got.code(), got.place(), got.wait()),
                (code, Some("a.place"), Some(Duration::from_millis(250)))
            );
            assert_eq!(got.moved(), Some(&(eu, 7)));
        }
    }

    #[test]
    fn the_cause_and_unprintable_places_stay_here() {
        let status =
            to_status(Error::new(Code::Internal).at("no\r\nheader").because("Ann Example, born 1990"));
        let all = format!("{status:?}");
        assert!(!all.contains("Ann Example"));
        assert!(status.metadata().get(PLACE).is_none());
    }

    #[test]
    fn foreign_statuses_get_a_code() {
        assert_eq!(from_status(&Status::unavailable("connection refused")).code(), Code::ServiceSilent);
        assert_eq!(from_status(&Status::out_of_range("too large")).code(), Code::TooLarge);
        assert!(refined(&Status::unimplemented("")).is_none());
        let text = "failed to decode Protobuf message: SignInRequest.email: invalid string value: data is not UTF-8 encoded";
        let error = refined(&Status::internal(text)).unwrap();
        assert_eq!((error.code(), error.place()), (Code::InvalidRequest, Some("SignInRequest.email")));
        assert_eq!(
            from_stream(&Status::internal("Unexpected EOF decoding stream.")).code(),
            Code::InvalidRequest
        );
    }
}
