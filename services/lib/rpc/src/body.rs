//! Bodies that end when their time is over; the bytes pass through untouched.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use domicile_types::{Code, Error};
use http_body::{Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep, sleep_until};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::Status;
use tonic::body::Body;

use crate::doors::Busy;
use crate::status::to_status;

/// A streamed request: fails when the next piece takes too long.
pub(crate) struct Upload {
    inner: Body,
    idle: Duration,
    timer: Pin<Box<Sleep>>,
}

impl Upload {
    pub(crate) fn wrap(inner: Body, idle: Duration) -> Body {
        Body::new(Self { inner, idle, timer: Box::pin(sleep(idle)) })
    }
}

impl http_body::Body for Upload {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.inner).poll_frame(cx) {
            let next = Instant::now() + self.idle;
            self.timer.as_mut().reset(next);
            return Poll::Ready(frame);
        }
        ready!(self.timer.as_mut().poll(cx));
        Poll::Ready(Some(Err(to_status(Error::new(Code::DeadlineExceeded)))))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// An answer that keeps its connection from counting as idle until all of it has gone out.
pub(crate) struct Answering {
    inner: Body,
    _busy: Busy,
}

impl Answering {
    pub(crate) fn wrap(inner: Body, busy: Busy) -> Body {
        Body::new(Self { inner, _busy: busy })
    }
}

impl http_body::Body for Answering {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        Pin::new(&mut self.inner).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// How long a streamed answer may be silent once the server is going down.
const SILENCE: Duration = Duration::from_millis(250);

/// A streamed answer: when the server goes down, it ends with UNAVAILABLE as soon as it has nothing
/// to say. One that still has something goes on, for the server's grace.
pub(crate) struct Download {
    inner: Body,
    closing: Pin<Box<WaitForCancellationFutureOwned>>,
    silence: Option<Pin<Box<Sleep>>>,
    over: bool,
}

impl Download {
    pub(crate) fn wrap(inner: Body, closing: &CancellationToken) -> Body {
        let closing = Box::pin(closing.clone().cancelled_owned());
        Body::new(Self { inner, closing, silence: None, over: false })
    }

    fn poll_silence(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let silence = match &mut self.silence {
            Some(silence) => silence,
            None => {
                ready!(self.closing.as_mut().poll(cx));
                self.silence.insert(Box::pin(sleep_until(Instant::now() + SILENCE)))
            }
        };
        silence.as_mut().poll(cx)
    }
}

impl http_body::Body for Download {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.over {
            return Poll::Ready(None);
        }
        if let Poll::Ready(frame) = Pin::new(&mut self.inner).poll_frame(cx) {
            if let Some(silence) = &mut self.silence {
                silence.as_mut().reset(Instant::now() + SILENCE);
            }
            return Poll::Ready(frame);
        }
        ready!(self.poll_silence(cx));
        self.over = true;
        self.inner = Body::empty();
        let mut trailers = http::HeaderMap::new();
        let status = to_status(Error::new(Code::ServiceSilent).retry_after(Duration::from_secs(1)));
        Poll::Ready(Some(status.add_header(&mut trailers).map(|()| Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.over || self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
