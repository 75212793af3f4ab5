//! The key service on a server, and what of it may be seen.

use std::io;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use domicile_crypto::{KeyContext, KeyService as _, Purpose};
use domicile_tests::aws::{Kind, Server};
use domicile_types::{Code, RegionId, Result};
use tracing_subscriber::fmt::MakeWriter;

use super::{Cloud, id, keys, open_keys};

pub(crate) fn context() -> KeyContext {
    KeyContext::region(RegionId::new("eu").unwrap(), Purpose::Travel)
}

fn refusal<T>(result: Result<T>) -> (Code, String) {
    let error = result.err().unwrap();
    (error.code(), error.place().unwrap_or_default().to_owned())
}

/// A region does not start with a key it cannot use, and says why.
async fn a_key_that_cannot_be_used_is_named(kind: Kind) {
    let cloud = Cloud::new(kind);
    let endpoint = cloud.server.endpoint();
    let open = async |key: &str| open_keys(&keys(key, &endpoint)).await;
    let disabled = cloud.key().await;
    cloud.kms.disable_key().key_id(id(&disabled)).send().await.unwrap();
    assert_eq!(refusal(open(&disabled).await), (Code::KeyDenied, "key disabled".to_owned()));
    cloud.kms.enable_key().key_id(id(&disabled)).send().await.unwrap();
    open(&disabled).await.unwrap();
    let dying = cloud.key().await;
    let service = open(&dying).await.unwrap();
    cloud.kms.schedule_key_deletion().key_id(id(&dying)).pending_window_in_days(7).send().await.unwrap();
    assert_eq!(refusal(open(&dying).await), (Code::KeyDenied, "key pending deletion".to_owned()));
    assert_eq!(service.health().await.unwrap_err().code(), Code::KeyDenied);
    let signing = cloud.kms.create_key().key_usage(aws_sdk_kms::types::KeyUsageType::SignVerify);
    let signing = signing.key_spec(aws_sdk_kms::types::KeySpec::EccNistP256).send().await.unwrap();
    let signing = signing.key_metadata.unwrap().arn.unwrap();
    assert_eq!(refusal(open(&signing).await), (Code::KeyDenied, "key usage".to_owned()));
    let copied = cloud
        .kms
        .create_key()
        .key_usage(aws_sdk_kms::types::KeyUsageType::EncryptDecrypt)
        .multi_region(true)
        .send()
        .await
        .unwrap();
    let copied = copied.key_metadata.unwrap().arn.unwrap();
    assert_eq!(refusal(open(&copied).await), (Code::KeyDenied, "multi-Region key".to_owned()));
    let nobodys = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab";
    assert_eq!(refusal(open(nobodys).await), (Code::KeyDenied, "key".to_owned()));
}

#[tokio::test]
async fn a_key_that_cannot_be_used_is_named_on_moto() {
    a_key_that_cannot_be_used_is_named(Kind::Moto).await;
}

#[tokio::test]
async fn a_key_that_cannot_be_used_is_named_on_ministack() {
    a_key_that_cannot_be_used_is_named(Kind::MiniStack).await;
}

#[tokio::test]
async fn without_a_server_the_key_service_is_unavailable() {
    let free = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
    let key = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab";
    let refused = open_keys(&keys(key, &format!("http://127.0.0.1:{free}"))).await;
    assert_eq!(refusal(refused), (Code::KeyUnavailable, "DescribeKey".to_owned()));
}

/// A log that keeps everything.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

impl Log {
    fn lines(&self, with: &str) -> Vec<String> {
        let bytes = self.0.lock().unwrap();
        let text = String::from_utf8_lossy(&bytes);
        text.lines().filter(|line| line.contains(with)).map(str::to_owned).collect()
    }

    fn shows(&self, text: &str) -> bool {
        let bytes = self.0.lock().unwrap();
        bytes.windows(text.len()).any(|window| window == text.as_bytes())
    }
}

/// P8: the SDK tells of its calls at its finest level, and with a variable of the environment of what they
/// answer; the key service keeps it silent.
#[tokio::test]
async fn no_log_shows_a_secret() {
    let cloud = Cloud::new(Kind::Moto);
    let key = cloud.key().await;
    let log = Log::default();
    let everything = tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_ansi(false);
    let listening = tracing::subscriber::set_default(everything.with_writer(log.clone()).finish());
    let service = cloud.service(&key).await;
    let secret = b"a secret to be wrapped".as_slice();
    let wrapped = service.wrap(&context(), secret).await.unwrap();
    assert_eq!(service.unwrap(&context(), &wrapped).await.unwrap().as_slice(), secret);
    let data_key = service.generate_data_key(&context()).await.unwrap();
    let forms = [STANDARD.encode(secret), String::from_utf8(secret.to_vec()).unwrap()];
    assert!(!forms.iter().any(|form| log.shows(form)));
    assert!(!log.shows(&STANDARD.encode(data_key.plain.expose())));
    for line in ["transmitting request", "read HTTP response body", "output_or_error"] {
        assert_eq!(log.lines(line), Vec::<String>::new(), "not even that there was a call");
    }
    // The same call of the bare SDK: what the service is silent about.
    let plain = aws_sdk_kms::primitives::Blob::new(secret);
    cloud.kms.encrypt().key_id(&key).plaintext(plain).send().await.unwrap();
    drop(listening);
    assert!(log.lines("transmitting request").len() == 1 && log.shows("read HTTP response body"));
}

/// A server goes with whoever started it, and one process has one of a kind.
#[test]
fn a_server_ends_with_whoever_started_it() {
    for kind in [Kind::Moto, Kind::MiniStack] {
        let server = Server::start(kind).unwrap();
        let place = ("127.0.0.1", server.port());
        assert_ne!(Server::shared(kind).unwrap().port(), server.port());
        assert_eq!(Server::shared(kind).unwrap().port(), Server::shared(kind).unwrap().port());
        std::net::TcpStream::connect(place).unwrap();
        drop(server);
        assert!(std::net::TcpStream::connect(place).is_err(), "{}", kind.name());
    }
}
