//! Spans of what is published: that it is, and that it is kept.

use super::Endpoint;
use super::publishing::{Once, Publishing};
use crate::error::Error;
use crate::key::JoinId;
use crate::message::Draft;
use crate::publish::{Published, Publisher};
use crate::trace::{OpenSpan, SpanKind, Traced, Tracing};

impl Endpoint {
    /// The trace of a request, by its header `traceparent`: that decides whether it is traced, and where it says nothing the tracer's
    /// ratio. `None` if it is not, and without a [tracer](crate::Builder::tracer). What is published in its
    /// [`scope`](Traced::scope) belongs to it.
    pub fn traced(&self, traceparent: Option<&str>) -> Option<Traced> {
        self.tracing().of(traceparent)
    }

    /// What is traced here.
    pub(crate) fn tracing(&self) -> &Tracing {
        &self.0.surroundings.tracing
    }

    /// Publishes a message, and ends once it is kept where it is to be kept.
    #[inline]
    pub(crate) fn publish_draft(&self, draft: Draft, except: Option<&JoinId>, once: Once) -> Result<Publishing, Error> {
        match self.tracing().is_on() {
            false => self.publish_as_it_is(draft, except, once),
            true => self.publish_traced(draft, except, once),
        }
    }

    #[cold]
    fn publish_traced(&self, mut draft: Draft, except: Option<&JoinId>, once: Once) -> Result<Publishing, Error> {
        match self.begin_send(&mut draft, once.publisher) {
            None => self.publish_as_it_is(draft, except, once),
            Some(span) => followed(span, self.publish_as_it_is(draft, except, once)),
        }
    }

    /// The span of a message, if it is traced: with what is done by now, or by itself where nobody has decided yet.
    fn begin_send(&self, draft: &mut Draft, publisher: Publisher) -> Option<OpenSpan> {
        let is_undecided = || matches!(publisher, Publisher::Rust | Publisher::Source);
        let traced = Traced::current().or_else(|| is_undecided().then(|| self.tracing().root()).flatten())?;
        let mut span = self.labels().span(&traced, SpanKind::Producer, "send", &draft.topic);
        span.say("messaging.operation.name", "send");
        span.say("messaging.operation.type", "send");
        span.say("messaging.message.body.size", draft.payload.size());
        draft.trace = Some(Box::new(span.within()));
        Some(span)
    }

    /// The span of a traced message that is given to its store.
    #[inline]
    pub(super) fn begin_append(&self, draft: &Draft) -> Option<OpenSpan> {
        draft.trace.as_ref().map(|traced| self.span_of_append(traced))
    }

    #[cold]
    fn span_of_append(&self, traced: &Traced) -> OpenSpan {
        let mut span = traced.span(SpanKind::Internal, "append".to_owned());
        span.say("fanfare.store", if self.is_among_others() { "broker" } else { "local" });
        span
    }
}

/// Lets a span go on until its message is published.
fn followed(mut span: OpenSpan, publishing: Result<Publishing, Error>) -> Result<Publishing, Error> {
    match publishing {
        Ok(Publishing::Done) => Ok(Publishing::Done),
        Ok(publishing) => Ok(Publishing::Waits(Box::pin(async move {
            let published = publishing.end().await;
            has_come_to(&mut span, &published);
            published
        }))),
        Err(error) => {
            span.fail(error.name());
            Err(error)
        }
    }
}

/// What has become of a message.
#[cold]
pub(super) fn has_come_to(span: &mut OpenSpan, published: &Result<Published, Error>) {
    match published {
        Ok(published) => {
            if let Some(position) = published.position() {
                span.say("fanfare.position", position.to_string());
            }
            span.say("fanfare.repeated", published.is_repeated());
        }
        Err(error) => span.fail(error.name()),
    }
}
