//! What a failed call of AWS KMS means here. Of an answer only its error's name, its status and the
//! request's id are kept: messages, and answers that could not be read, might hold key material.

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_kms::config::http::HttpResponse;
use aws_sdk_kms::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_kms::operation::RequestId;
use domicile_types::{Code, Error};

/// One of the calls this service makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    Generate,
    Wrap,
    Unwrap,
    Describe,
}

impl Call {
    /// The name of KMS's operation.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Generate => "GenerateDataKey",
            Self::Wrap => "Encrypt",
            Self::Unwrap => "Decrypt",
            Self::Describe => "DescribeKey",
        }
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

/// KMS's own limits and troubles: the same call may succeed a moment later.
const PASSING: &[&str] = &[
    "ThrottlingException",
    "Throttling",
    "TooManyRequestsException",
    "RequestLimitExceeded",
    "LimitExceededException",
    "RequestTimeout",
    "RequestTimeoutException",
    "DependencyTimeoutException",
    "KeyUnavailableException",
    "KMSInternalException",
];

/// Where an operator looks, by the error's name.
fn place(call: Call, name: &str) -> &'static str {
    match name {
        "DisabledException" => "key disabled",
        // KMS names the state in the message alone, and an enabled key never answers so.
        "KMSInvalidStateException" | "KMSInvalidMacException" => "key state",
        "NotFoundException" | "InvalidArnException" => "key",
        "AccessDeniedException" | "InvalidGrantTokenException" => "key policy",
        "InvalidKeyUsageException" => "key usage",
        "ExpiredTokenException"
        | "IncompleteSignature"
        | "IncompleteSignatureException"
        | "InvalidClientTokenId"
        | "InvalidSignatureException"
        | "MissingAuthenticationToken"
        | "MissingAuthenticationTokenException"
        | "OptInRequired"
        | "SignatureDoesNotMatch"
        | "UnrecognizedClientException" => "credentials",
        _ if call == Call::Unwrap => "wrapped key",
        _ => call.name(),
    }
}

/// A failed call as the service's own error.
pub(super) fn explain<E>(call: Call, error: &SdkError<E>) -> Error
where
    E: ProvideErrorMetadata + RequestId + std::error::Error + 'static,
{
    let (what, code, place) = match error {
        SdkError::ServiceError(refused) => {
            let name = refused.err().code().unwrap_or_default();
            let status = refused.raw().status().as_u16();
            // A success that cannot be read is none.
            let passing = PASSING.contains(&name) || matches!(status, ..400 | 408 | 429 | 500..);
            let code = if passing { Code::KeyUnavailable } else { Code::KeyDenied };
            (clean(name), code, if passing { call.name() } else { place(call, name) })
        }
        SdkError::TimeoutError(_) => ("no answer in time".to_owned(), Code::KeyUnavailable, call.name()),
        SdkError::DispatchFailure(failed) if failed.is_timeout() => {
            ("no answer in time".to_owned(), Code::KeyUnavailable, call.name())
        }
        error if without_credentials(error) => {
            ("no credentials were found".to_owned(), Code::KeyUnavailable, "credentials")
        }
        SdkError::DispatchFailure(_) => {
            ("no connection, or a torn one".to_owned(), Code::KeyUnavailable, call.name())
        }
        _ => ("an answer that cannot be read".to_owned(), Code::KeyUnavailable, call.name()),
    };
    let status = error.raw_response().map_or(0, |raw: &HttpResponse| raw.status().as_u16());
    let request = error.request_id().map(clean).unwrap_or_default();
    Error::new(code).at(place).because(Cause { operation: call.name(), what, status, request })
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
    fn what_a_server_writes_stays_one_short_word() {
        assert_eq!(clean("Denied\r\nSet-Cookie: a=b\u{202e}"), "DeniedSet-Cookie:ab");
        assert_eq!(clean(&"x".repeat(1_000)).len(), 80);
    }

    #[test]
    fn the_place_says_where_to_look() {
        assert_eq!(place(Call::Wrap, "DisabledException"), "key disabled");
        assert_eq!(place(Call::Unwrap, "InvalidCiphertextException"), "wrapped key");
        assert_eq!(place(Call::Unwrap, "AccessDeniedException"), "key policy");
        assert_eq!(place(Call::Wrap, "SomethingNew"), "Encrypt");
    }
}
