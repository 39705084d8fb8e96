use std::pin::Pin;
use std::task::{Context, Poll};

use futures::Stream;
use tokio::sync::mpsc::UnboundedReceiver;

use super::options::Event;
use super::queue::stopping;
use crate::error::Result;

/// Events of one generation; ends after [`Event::Done`] or an error. Dropping it cancels the generation.
#[derive(Debug)]
pub struct GenerationStream {
    events: UnboundedReceiver<Result<Event>>,
    ended: bool,
}

impl GenerationStream {
    pub(super) fn new(events: UnboundedReceiver<Result<Event>>) -> Self {
        Self { events, ended: false }
    }
}

impl Stream for GenerationStream {
    type Item = Result<Event>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let event = match std::task::ready!(self.events.poll_recv(context)) {
            Some(event) => event,
            // The engine never lets go of a stream without an end unless its thread has died.
            None => Err(stopping()),
        };
        self.ended = matches!(event, Ok(Event::Done(_)) | Err(_));
        Poll::Ready(Some(event))
    }
}
