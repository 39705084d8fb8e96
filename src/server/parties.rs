//! Works on each call as a part of what its party does. Stands behind the guard, which knows the caller.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use http_body::{Frame, SizeHint};
use tonic::body::Body;
use tonic::codegen::http::{Request, Response};
use tower::{Layer, Service};

use super::clients::Connection;
use crate::access::Caller;
use crate::party::Party;

/// Puts services behind it.
#[derive(Clone)]
pub(super) struct PartiesLayer;

/// Services whose work is done for the parties of their callers.
#[derive(Clone)]
pub(super) struct Parties<S>(S);

impl<S> Layer<S> for PartiesLayer {
    type Service = Parties<S>;

    fn layer(&self, inner: S) -> Parties<S> {
        Parties(inner)
    }
}

impl<S> Service<Request<Body>> for Parties<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let party = party(&request);
        let answer = party.clone().with(party.run(|| self.0.call(request)));
        Box::pin(async move { Ok(answer.await?.map(|inner| Body::new(PartyBody { inner, party }))) })
    }
}

fn party(request: &Request<Body>) -> Party {
    let extensions = request.extensions();
    let Some(connection) = extensions.get::<Arc<Connection>>() else { return Party::Own };
    let client = connection.client();
    extensions.get::<Caller>().map_or(Party::Client(client), |caller| caller.party(client))
}

/// A response whose messages are made while they are asked for.
struct PartyBody {
    inner: Body,
    party: Party,
}

impl http_body::Body for PartyBody {
    type Data = <Body as http_body::Body>::Data;
    type Error = <Body as http_body::Body>::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let this = &mut *self;
        this.party.run(|| Pin::new(&mut this.inner).poll_frame(context))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
