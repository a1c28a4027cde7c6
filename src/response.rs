//! The way back: the future that waits for the handler's response and writes into it what is kept.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use http::Response;
use pin_project_lite::pin_project;

use crate::click::request::BoxFuture;
use crate::commands::HandlerCommands;
use crate::config::Config;
use crate::consent::Permissions;
use crate::exchange::Exchange;
use crate::outgoing::Outgoing;

pin_project! {
    /// The future of [`ReferralService`](crate::ReferralService).
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<F>
    where
        F: Future,
    {
        #[pin]
        inner: F,
        stage: Stage<F::Output>,
    }
}

/// What the future waits for, and what it does then.
enum Stage<T> {
    /// The response passes: an outer layer handles it.
    PassThrough,
    /// The request had neither the layer's cookie nor its parameter, but its handler may ask for something.
    Watching {
        config: Arc<Config>,
        permissions: Permissions,
    },
    /// The request had the layer's cookie or parameter.
    Exchanging {
        exchange: Arc<Exchange>,
        /// Loads and decides while the handler works.
        resolving: Option<BoxFuture<'static, ()>>,
    },
    /// The response is there and waits, within a budget, for what is to be said in it.
    Finishing {
        result: T,
        finishing: BoxFuture<'static, Outgoing>,
    },
    Done,
}

impl<F: Future> ResponseFuture<F> {
    #[inline]
    pub(crate) fn pass_through(inner: F) -> Self {
        let stage = Stage::PassThrough;
        Self { inner, stage }
    }

    #[inline]
    pub(crate) fn watching(inner: F, config: Arc<Config>, permissions: Permissions) -> Self {
        let stage = Stage::Watching {
            config,
            permissions,
        };
        Self { inner, stage }
    }

    #[inline]
    pub(crate) fn exchanging(inner: F, exchange: Arc<Exchange>) -> Self {
        let resolving = exchange.resolving();
        let stage = Stage::Exchanging {
            exchange,
            resolving,
        };
        Self { inner, stage }
    }
}

impl<F, R, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<R>, E>>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        match this.stage {
            // Whatever its handler asks for is for the outer layer.
            Stage::PassThrough => return this.inner.poll(cx),
            Stage::Finishing { .. } => return poll_finishing(this.stage, cx),
            Stage::Exchanging { resolving, .. } => {
                if let Some(future) = resolving
                    && future.as_mut().poll(cx).is_ready()
                {
                    *resolving = None;
                }
            }
            Stage::Watching { .. } | Stage::Done => {}
        }
        // Left as it is, because nearly always it is also the answer.
        let mut polled = this.inner.poll(cx);
        let Poll::Ready(Ok(response)) = &mut polled else {
            return polled;
        };
        if response.status().is_informational() {
            return polled;
        }
        let mut commands = HandlerCommands::take(response.extensions_mut());
        let exchange = match this.stage {
            Stage::Watching {
                config,
                permissions,
            } if !commands.is_empty() => {
                Arc::new(Exchange::empty(Arc::clone(config), permissions.clone()))
            }
            Stage::Exchanging { exchange, .. } => {
                let mut given = exchange.take_commands();
                given.add(commands);
                commands = given;
                Arc::clone(exchange)
            }
            _ => return polled,
        };
        if !exchange.must_finish(&commands) {
            return polled;
        }
        if !exchange.must_wait(&commands) {
            let outgoing = exchange.finish_now(commands, response.status());
            outgoing.write(response);
            return polled;
        }
        let finishing = Box::pin(exchange.finish(commands, response.status()));
        let Poll::Ready(result) = polled else {
            return polled;
        };
        *this.stage = Stage::Finishing { result, finishing };
        poll_finishing(this.stage, cx)
    }
}

/// Returns the response that waits, once it is known what to say in it.
fn poll_finishing<R, E>(
    stage: &mut Stage<Result<Response<R>, E>>,
    cx: &mut Context<'_>,
) -> Poll<Result<Response<R>, E>> {
    let Stage::Finishing { finishing, .. } = stage else {
        return Poll::Pending;
    };
    let outgoing = ready!(finishing.as_mut().poll(cx));
    let Stage::Finishing { mut result, .. } = std::mem::replace(stage, Stage::Done) else {
        return Poll::Pending;
    };
    if let Ok(response) = &mut result {
        outgoing.write(response);
    }
    Poll::Ready(result)
}

impl<F: Future + fmt::Debug> fmt::Debug for ResponseFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture")
            .field("inner", &self.inner)
            .finish_non_exhaustive()
    }
}
