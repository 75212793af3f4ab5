//! What a failed call of S3 means here. Of an answer only its error's name, its status and the request's
//! id are kept.

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::operation::RequestId;
use domicile_types::{Code, Error};

/// One of the calls this store makes, by S3's name of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    HeadBucket,
    GetLock,
    Put,
    Begin,
    Part,
    Complete,
    Abort,
    ListUploads,
    Get,
    Head,
    ListVersions,
    Delete,
}

impl Call {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::HeadBucket => "HeadBucket",
            Self::GetLock => "GetObjectLockConfiguration",
            Self::Put => "PutObject",
            Self::Begin => "CreateMultipartUpload",
            Self::Part => "UploadPart",
            Self::Complete => "CompleteMultipartUpload",
            Self::Abort => "AbortMultipartUpload",
            Self::ListUploads => "ListMultipartUploads",
            Self::Get => "GetObject",
            Self::Head => "HeadObject",
            Self::ListVersions => "ListObjectVersions",
            Self::Delete => "DeleteObject",
        }
    }

    /// Whether a bare 404 to it means that the object is not there.
    const fn asks_for_an_object(self) -> bool {
        matches!(self, Self::Get | Self::Head)
    }
}

/// What the operator's log learns of a failed call.
#[derive(Debug, thiserror::Error)]
#[error("{operation}: {what} (status {status}, request {request})")]
struct Cause {
    operation: &'static str,
    what: String,
    status: u16,
    request: String,
}

/// The same request may succeed a moment later, though the status says that it is at fault: limits, a
/// body that was damaged on its way, an upload or a name that another request is changing just now.
const PASSING: &[&str] = &[
    "SlowDown",
    "Throttling",
    "ThrottlingException",
    "RequestLimitExceeded",
    "TooManyRequestsException",
    "RequestTimeout",
    "RequestTimeoutException",
    "OperationAborted",
    "ConditionalRequestConflict",
    "BadDigest",
    "InvalidDigest",
    "XAmzContentChecksumMismatch",
    "XAmzContentSHA256Mismatch",
    "IncompleteBody",
    "NoSuchUpload",
];

/// What a name and a status mean, and where an operator looks.
fn meaning(call: Call, name: &str, status: u16) -> (Code, &'static str) {
    match (name, status) {
        ("NoSuchKey", _) => (Code::ObjectMissing, "object"),
        ("NoSuchBucket", _) => (Code::ObjectStoreDenied, "bucket"),
        (_, 404) if call.asks_for_an_object() => (Code::ObjectMissing, "object"),
        (_, 404) if call == Call::HeadBucket => (Code::ObjectStoreDenied, "bucket"),
        ("PreconditionFailed", _) | (_, 412) => (Code::ObjectExists, "object"),
        ("InvalidRange", _) | (_, 416) => (Code::ObjectIncomplete, "object"),
        (name, _) if PASSING.contains(&name) => (Code::ObjectStoreUnavailable, call.name()),
        // A success with an error in it, or that cannot be read, is none.
        (_, ..300 | 408 | 429 | 500..) => (Code::ObjectStoreUnavailable, call.name()),
        ("PermanentRedirect" | "AuthorizationHeaderMalformed", _) | (_, 300..400) => {
            (Code::ObjectStoreDenied, "region of the bucket")
        }
        ("InvalidAccessKeyId" | "SignatureDoesNotMatch" | "ExpiredToken" | "InvalidToken", _) => {
            (Code::ObjectStoreDenied, "credentials")
        }
        ("RequestTimeTooSkewed", _) => (Code::ObjectStoreDenied, "this machine's clock"),
        // What Object Lock keeps is refused with the same name.
        ("AccessDenied", _) if call == Call::Delete => (Code::ObjectStoreDenied, "bucket policy or lock"),
        ("AccessDenied" | "AllAccessDisabled", _) | (_, 403) => (Code::ObjectStoreDenied, "bucket policy"),
        _ => (Code::ObjectStoreDenied, call.name()),
    }
}

/// A failed call as the store's own error.
pub(super) fn explain<E>(call: Call, error: &SdkError<E>) -> Error
where
    E: ProvideErrorMetadata + RequestId + std::error::Error + 'static,
{
    let status = status(error);
    let unanswered = |what: &str| (what.to_owned(), Code::ObjectStoreUnavailable, call.name());
    let (what, code, place) = match error {
        SdkError::ServiceError(refused) => {
            let name = refused.err().code().unwrap_or_default();
            let (code, place) = meaning(call, name, status);
            (clean(name), code, place)
        }
        SdkError::TimeoutError(_) => unanswered("no answer in time"),
        SdkError::DispatchFailure(failed) if failed.is_timeout() => unanswered("no answer in time"),
        error if without_credentials(error) => {
            ("no credentials were found".to_owned(), Code::ObjectStoreUnavailable, "credentials")
        }
        SdkError::DispatchFailure(_) => unanswered("no connection, or a torn one"),
        _ => unanswered("an answer that cannot be read"),
    };
    let request = error.request_id().map(clean).unwrap_or_default();
    Error::new(code).at(place).because(Cause { operation: call.name(), what, status, request })
}

/// The status of an answer; 0 when there was none.
pub(super) fn status<E>(error: &SdkError<E>) -> u16 {
    error.raw_response().map_or(0, |raw: &HttpResponse| raw.status().as_u16())
}

/// Whether the answer says that a condition does not hold: the name is taken, or being taken.
pub(super) fn condition_failed<E: ProvideErrorMetadata>(error: &SdkError<E>) -> bool {
    matches!(status(error), 409 | 412) || error.code() == Some("PreconditionFailed")
}

/// Whether S3 says that the bucket has no Object Lock; other makers' may not know the question.
pub(super) fn has_no_lock<E: ProvideErrorMetadata>(error: &SdkError<E>) -> bool {
    let name = error.code().unwrap_or_default();
    (name == "ObjectLockConfigurationNotFoundError" && status(error) == 404)
        || matches!(status(error), 405 | 501)
}

/// A body that broke off.
pub(super) fn torn(call: Call) -> Error {
    let what = "the content broke off".to_owned();
    let cause = Cause { operation: call.name(), what, status: 0, request: String::new() };
    Error::new(Code::ObjectStoreUnavailable).at(call.name()).because(cause)
}

/// What an answer must have and has not.
pub(super) fn incomplete(call: Call) -> Error {
    Error::new(Code::ObjectStoreUnavailable).at(call.name())
}

/// Whether nothing was sent because the chain of credentials gave none.
fn without_credentials(error: &(dyn std::error::Error + 'static)) -> bool {
    std::iter::successors(Some(error), |error| error.source()).any(|error| error.is::<CredentialsError>())
}

/// A name or an id as a log may show it, whatever the server wrote there.
fn clean(text: &str) -> String {
    let fits = |c: &char| c.is_ascii_alphanumeric() || "-_.:#/".contains(*c);
    text.chars().filter(fits).take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_statuses_have_one_meaning() {
        let cases = [
            (Call::Get, "NoSuchKey", 404, Code::ObjectMissing),
            (Call::Head, "", 404, Code::ObjectMissing),
            (Call::Put, "NoSuchBucket", 404, Code::ObjectStoreDenied),
            (Call::Complete, "NoSuchUpload", 404, Code::ObjectStoreUnavailable),
            (Call::Get, "InvalidRange", 416, Code::ObjectIncomplete),
            (Call::Put, "SlowDown", 503, Code::ObjectStoreUnavailable),
            (Call::Part, "BadDigest", 400, Code::ObjectStoreUnavailable),
            (Call::Head, "", 403, Code::ObjectStoreDenied),
            (Call::Put, "SomethingNew", 400, Code::ObjectStoreDenied),
            (Call::Put, "SomethingNew", 599, Code::ObjectStoreUnavailable),
        ];
        for (call, name, status, code) in cases {
            assert_eq!(meaning(call, name, status).0, code, "{name} {status}");
        }
        assert_eq!(meaning(Call::Delete, "AccessDenied", 403).1, "bucket policy or lock");
        assert_eq!(meaning(Call::Head, "", 301).1, "region of the bucket");
    }

    #[test]
    fn what_a_server_writes_stays_one_short_word() {
        assert_eq!(clean("No\r\nSuch: key\u{202e}"), "NoSuch:key");
        assert_eq!(clean(&"x".repeat(1_000)).len(), 80);
    }
}
