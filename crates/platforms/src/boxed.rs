//! Aliases for boxed futures and errors.

use std::error::Error;
use std::future::Future;
use std::pin::Pin;

pub(crate) type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

pub(crate) type BoxError = Box<dyn Error + Send + Sync>;
