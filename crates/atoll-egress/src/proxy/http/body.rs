//! A body with tokens taken out.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame};
use hyper::body::Incoming;

use crate::redact::Redactor;

/// The body of a response from a brokered host.
pub(super) struct Redacted {
    incoming: Incoming,
    redactor: Redactor,
    ended: bool,
}

impl Redacted {
    pub(super) fn new(incoming: Incoming, redactor: Redactor) -> Self {
        Self { incoming, redactor, ended: false }
    }

    fn rest(&mut self) -> Option<Result<Frame<Bytes>, hyper::Error>> {
        let rest = self.redactor.rest();
        (!rest.is_empty()).then(|| Ok(Frame::data(rest.into())))
    }
}

impl Body for Redacted {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        loop {
            if self.ended {
                return Poll::Ready(None);
            }
            let frame = ready!(Pin::new(&mut self.incoming).poll_frame(context));
            let Some(frame) = frame.transpose()? else {
                self.ended = true;
                return Poll::Ready(self.rest());
            };
            // Trailers are left out: nobody reads them, and anything could be in them.
            let Ok(piece) = frame.into_data() else { continue };
            let seen = self.redactor.piece(&piece);
            if !seen.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(seen.into()))));
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.ended
    }

    fn size_hint(&self) -> http_body::SizeHint {
        // As many bytes come out as go in.
        self.incoming.size_hint()
    }
}
