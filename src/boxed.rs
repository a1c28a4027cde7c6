//! The two boxes that futures and errors of unknown types travel in.

use std::error::Error;
use std::future::Future;
use std::pin::Pin;

pub(crate) type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

pub(crate) type BoxError = Box<dyn Error + Send + Sync>;
