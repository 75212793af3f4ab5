//! What goes wrong between a region and KMS: a clear code, another try where it may help, none where not.

use std::time::Duration;

use domicile_crypto::KeyService as _;
use domicile_kms::AwsKeys;
use domicile_tests::aws::Kind;
use domicile_types::{Code, Error};

use super::keys::context;
use super::proxy::{Deed, Proxy, Seen};
use super::{Cloud, keys, open_keys};

const THROTTLED: Deed = Deed::Answer(400, r#"{"__type":"ThrottlingException","message":"Rate exceeded"}"#);
const INTERNAL: Deed = Deed::Answer(500, r#"{"__type":"KMSInternalException","message":"try again"}"#);

fn wraps(seen: &Seen) -> bool {
    seen.operation == "Encrypt"
}

fn unwraps(seen: &Seen) -> bool {
    seen.operation == "Decrypt"
}

struct Bench {
    proxy: Proxy,
    service: AwsKeys,
}

impl Bench {
    /// A key behind a proxy. A try takes a second at most, a call five.
    async fn new() -> Self {
        let cloud = Cloud::new(Kind::Moto);
        let proxy = Proxy::new(cloud.server.port()).await;
        let mut settings = keys(&cloud.key().await, &proxy.endpoint());
        settings.connect = Duration::from_millis(500);
        settings.attempt = Duration::from_secs(1);
        settings.total = Duration::from_secs(5);
        let service = open_keys(&settings).await.unwrap();
        Self { proxy, service }
    }

    /// Wraps, with this in the way of the first so many tries; and how often it was tried.
    async fn wrap(&self, times: usize, deed: Deed) -> (Result<Vec<u8>, Error>, usize) {
        self.proxy.first(times, deed, wraps);
        let wrapped = self.service.wrap(&context(), b"secret").await;
        (wrapped, self.proxy.count(wraps))
    }
}

#[tokio::test]
async fn what_passes_is_tried_again() {
    let bench = Bench::new().await;
    let passing = [
        THROTTLED,
        INTERNAL,
        Deed::Answer(503, r#"{"__type":"DependencyTimeoutException"}"#),
        Deed::Answer(503, "<html>not of this service</html>"),
        Deed::Slow(Duration::from_secs(2)),
        Deed::CutRequest(1),
        Deed::CutAnswer(3),
        Deed::LoseAnswer,
    ];
    for deed in passing {
        let (wrapped, tries) = bench.wrap(1, deed.clone()).await;
        assert_eq!(tries, 2, "{deed:?}");
        let secret = bench.service.unwrap(&context(), &wrapped.unwrap()).await.unwrap();
        assert_eq!(secret.as_slice(), b"secret");
    }
}

#[tokio::test]
async fn what_does_not_pass_is_unavailable_after_the_last_try() {
    let bench = Bench::new().await;
    for deed in [THROTTLED, INTERNAL, Deed::CutRequest(1), Deed::LoseAnswer] {
        let (wrapped, tries) = bench.wrap(usize::MAX, deed.clone()).await;
        let error = wrapped.unwrap_err();
        assert_eq!((error.code(), error.place()), (Code::KeyUnavailable, Some("Encrypt")), "{deed:?}");
        assert_eq!(tries, 3, "{deed:?}");
    }
}

/// The attempts and the whole are bounded in time, whatever a server does.
#[tokio::test]
async fn a_server_that_never_answers_costs_no_more_than_the_settings_say() {
    let bench = Bench::new().await;
    let started = tokio::time::Instant::now();
    let (wrapped, tries) = bench.wrap(usize::MAX, Deed::Slow(Duration::from_secs(60))).await;
    assert_eq!(wrapped.unwrap_err().code(), Code::KeyUnavailable);
    assert!(tries <= 3);
    // Far from the minute the server would take; what the machine adds does not matter.
    assert!(started.elapsed() < Duration::from_secs(20));
    // It heals by itself.
    bench.proxy.judge(|_| Deed::Pass);
    bench.service.wrap(&context(), b"secret").await.unwrap();
}

#[tokio::test]
async fn what_is_refused_is_refused_once_and_says_where_to_look() {
    let bench = Bench::new().await;
    let cases = [
        (r#"{"__type":"AccessDeniedException","message":"no"}"#, "key policy"),
        (r#"{"__type":"DisabledException","message":"no"}"#, "key disabled"),
        (r#"{"__type":"KMSInvalidStateException","message":"pending deletion"}"#, "key state"),
        (r#"{"__type":"NotFoundException","message":"no"}"#, "key"),
        (r#"{"__type":"InvalidKeyUsageException","message":"no"}"#, "key usage"),
        (r#"{"__type":"UnrecognizedClientException","message":"no"}"#, "credentials"),
        (r#"{"__type":"InvalidSignatureException","message":"no"}"#, "credentials"),
        (r#"{"__type":"SomethingNobodyKnows","message":"no"}"#, "Encrypt"),
    ];
    for (answer, place) in cases {
        let (wrapped, tries) = bench.wrap(usize::MAX, Deed::Answer(400, answer)).await;
        let error = wrapped.unwrap_err();
        assert_eq!((error.code(), error.place()), (Code::KeyDenied, Some(place)));
        assert_eq!(tries, 1, "{place}");
    }
    let wrapped = bench.wrap(0, Deed::Pass).await.0.unwrap();
    for name in ["InvalidCiphertextException", "IncorrectKeyException"] {
        let answer = format!(r#"{{"__type":"{name}"}}"#);
        bench.proxy.first(usize::MAX, Deed::Answer(400, answer.leak()), unwraps);
        let error = bench.service.unwrap(&context(), &wrapped).await.unwrap_err();
        assert_eq!((error.code(), error.place()), (Code::KeyDenied, Some("wrapped key")));
        assert_eq!(bench.proxy.count(unwraps), 1);
    }
}

/// P8: what a server writes comes neither to a caller nor into the log, key material least of all.
#[tokio::test]
async fn an_error_repeats_nothing_a_server_said() {
    let bench = Bench::new().await;
    let wrapped = bench.wrap(0, Deed::Pass).await.0.unwrap();
    let answers = [
        (400, r#"{"__type":"AccessDeniedException","message":"hunter2\r\nforged line"}"#),
        (400, r#"{"__type":"hun\nter2","message":"hunter2"}"#),
        (200, r#"{"Plaintext":"aHVudGVyMg==","KeyId":"hunter2", broken"#),
        (200, r#"{"Plaintext":"hunter2!not base64"}"#),
        (200, "hunter2"),
    ];
    for (status, answer) in answers {
        bench.proxy.first(usize::MAX, Deed::Answer(status, answer), unwraps);
        let error = bench.service.unwrap(&context(), &wrapped).await.unwrap_err();
        let mut shown = format!("{error} {error:?}");
        let mut cause = std::error::Error::source(&error);
        while let Some(next) = cause {
            shown.push_str(&format!(" {next} {next:?}"));
            cause = next.source();
        }
        let leaked = ["hunter2\r", "hun\nter2", "aHVudGVyMg", "forged", "message"];
        assert!(!leaked.iter().any(|text| shown.contains(text)), "{shown}");
        let refused = if status == 200 { Code::KeyUnavailable } else { Code::KeyDenied };
        assert_eq!(error.code(), refused, "{answer}");
    }
}
