//! A proxy in front of a server that throws in what goes wrong: by a rule that sees each request and says
//! what becomes of it.

use std::convert::Infallible;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::stream;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Body as _, Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};

/// What becomes of a request.
#[derive(Clone, Debug)]
pub(crate) enum Deed {
    /// It goes through.
    Pass,
    /// The proxy answers by itself.
    Answer(u16, &'static str),
    /// It goes through after this while.
    Slow(Duration),
    /// The connection is closed after this many bytes of the request's body; the server sees nothing.
    CutRequest(usize),
    /// It goes through, and the connection is closed instead of an answer.
    LoseAnswer,
    /// It goes through, and the connection is closed after this many bytes of the answer's body.
    CutAnswer(usize),
}

/// Whether a request is the one that a test waits for.
pub(crate) type Notices = fn(&Seen) -> bool;

/// A request as a rule sees it.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// Its method.
    pub(crate) method: Method,
    /// Its path and query.
    pub(crate) place: String,
    /// KMS's operation, or nothing.
    pub(crate) operation: String,
    /// The Object Lock it asks for: its mode and its end.
    pub(crate) lock: Option<(String, String)>,
}

impl Seen {
    /// Whether it is a method on something whose path and query hold this.
    pub(crate) fn is(&self, method: &Method, holds: &str) -> bool {
        self.method == *method && self.place.contains(holds)
    }
}

type Rule = Box<dyn FnMut(&Seen) -> Deed + Send>;
type Answer = Response<BoxBody<Bytes, io::Error>>;

/// A running proxy; it ends with the test.
pub(crate) struct Proxy {
    port: u16,
    state: Arc<State>,
    task: tokio::task::JoinHandle<()>,
}

struct State {
    upstream: u16,
    rule: Mutex<Rule>,
    seen: Mutex<Vec<Seen>>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Proxy {
    /// A proxy in front of the server on this port that lets everything pass.
    pub(crate) async fn new(upstream: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let rule: Rule = Box::new(|_: &Seen| Deed::Pass);
        let state = Arc::new(State { upstream, rule: Mutex::new(rule), seen: Mutex::default() });
        let serving = Arc::clone(&state);
        let task = tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                tokio::spawn(serve(connection, Arc::clone(&serving)));
            }
        });
        Self { port, state, task }
    }

    /// Its address.
    pub(crate) fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Judges what comes from now on by this rule, and forgets what came before.
    pub(crate) fn judge(&self, rule: impl FnMut(&Seen) -> Deed + Send + 'static) {
        *self.state.rule.lock().unwrap() = Box::new(rule);
        self.state.seen.lock().unwrap().clear();
    }

    /// The same deed for the first `times` requests that fit; the others pass.
    pub(crate) fn first(&self, times: usize, deed: Deed, fits: impl Fn(&Seen) -> bool + Send + 'static) {
        let mut left = times;
        self.judge(move |seen| {
            if left == 0 || !fits(seen) {
                return Deed::Pass;
            }
            left -= 1;
            deed.clone()
        });
    }

    /// How many requests have come that fit.
    pub(crate) fn count(&self, fits: impl Fn(&Seen) -> bool) -> usize {
        self.state.seen.lock().unwrap().iter().filter(|seen| fits(seen)).count()
    }
}

async fn serve(connection: TcpStream, state: Arc<State>) {
    let service = service_fn(move |request| handle(request, Arc::clone(&state)));
    // A connection that is cut on purpose ends with an error.
    drop(
        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(connection), service).await,
    );
}

fn cut<T>() -> io::Result<T> {
    Err(io::Error::from(io::ErrorKind::ConnectionReset))
}

async fn handle(request: Request<Incoming>, state: Arc<State>) -> io::Result<Answer> {
    let header = |name| request.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let target = header("x-amz-target");
    let seen = Seen {
        method: request.method().clone(),
        place: request.uri().to_string(),
        operation: target.as_deref().and_then(|it| it.split('.').nth(1)).unwrap_or_default().to_owned(),
        lock: header("x-amz-object-lock-mode").zip(header("x-amz-object-lock-retain-until-date")),
    };
    let deed = (state.rule.lock().unwrap())(&seen);
    state.seen.lock().unwrap().push(seen);
    match deed {
        Deed::Pass => forward(request, &state).await,
        Deed::Answer(status, body) => answer(request, status, body).await,
        Deed::Slow(by) => {
            tokio::time::timeout(by, std::future::pending::<Infallible>()).await.unwrap_err();
            forward(request, &state).await
        }
        Deed::CutRequest(after) => cut_request(request, after).await,
        Deed::LoseAnswer => {
            forward(request, &state).await?.into_body().collect().await?;
            cut()
        }
        Deed::CutAnswer(after) => {
            let (parts, body) = forward(request, &state).await?.into_parts();
            let body = body.collect().await?.to_bytes();
            let sent = [Ok(Frame::data(body.slice(..after.min(body.len())))), cut()];
            Ok(Response::from_parts(parts, BodyExt::boxed(StreamBody::new(stream::iter(sent)))))
        }
    }
}

fn whole(body: Bytes) -> BoxBody<Bytes, io::Error> {
    Full::new(body).map_err(|never: Infallible| match never {}).boxed()
}

async fn answer(request: Request<Incoming>, status: u16, body: &'static str) -> io::Result<Answer> {
    let head = request.method() == Method::HEAD;
    request.into_body().collect().await.map_err(io::Error::other)?;
    let kind = if body.starts_with('{') { "application/x-amz-json-1.1" } else { "application/xml" };
    let body = if head { Bytes::new() } else { Bytes::from_static(body.as_bytes()) };
    let mut answer = Response::new(whole(body));
    *answer.status_mut() = StatusCode::from_u16(status).map_err(io::Error::other)?;
    answer.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
    Ok(answer)
}

async fn cut_request(request: Request<Incoming>, after: usize) -> io::Result<Answer> {
    let mut body = request.into_body();
    let mut read = BytesMut::new();
    while read.len() < after && !body.is_end_stream() {
        match body.frame().await {
            Some(Ok(frame)) => read.extend_from_slice(frame.data_ref().map_or(&[], |data| data)),
            _ => break,
        }
    }
    cut()
}

async fn forward(request: Request<Incoming>, state: &State) -> io::Result<Answer> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
    let upstream = TcpStream::connect(("127.0.0.1", state.upstream)).await?;
    let handshake = hyper::client::conn::http1::handshake(TokioIo::new(upstream)).await;
    let (mut sender, connection) = handshake.map_err(io::Error::other)?;
    tokio::spawn(connection);
    let mut request = Request::from_parts(parts, Full::new(body));
    request.headers_mut().remove(header::EXPECT);
    let answer = sender.send_request(request).await.map_err(io::Error::other)?;
    let (parts, body) = answer.into_parts();
    Ok(Response::from_parts(parts, body.map_err(io::Error::other).boxed()))
}
