//! What a hook gets to see of a request: everything but the body, borrowed.

use http::{Extensions, HeaderMap, Method, Request, Uri};

/// A request without its body, as hooks see it.
#[derive(Clone, Copy, Debug)]
pub struct RequestRef<'a> {
    method: &'a Method,
    uri: &'a Uri,
    headers: &'a HeaderMap,
    extensions: &'a Extensions,
}

impl<'a> RequestRef<'a> {
    /// The request's method.
    #[must_use]
    pub fn method(&self) -> &'a Method {
        self.method
    }

    /// The request's URI, as it reached the layer.
    #[must_use]
    pub fn uri(&self) -> &'a Uri {
        self.uri
    }

    /// The request's headers.
    #[must_use]
    pub fn headers(&self) -> &'a HeaderMap {
        self.headers
    }

    /// The request's extensions, as outer layers and the server filled them.
    #[must_use]
    pub fn extensions(&self) -> &'a Extensions {
        self.extensions
    }
}

impl RequestRef<'_> {
    /// A copy that lives on. It isn't cheap.
    pub(crate) fn to_owned(self) -> Request<()> {
        let mut copy = Request::new(());
        *copy.method_mut() = self.method.clone();
        *copy.uri_mut() = self.uri.clone();
        *copy.headers_mut() = self.headers.clone();
        *copy.extensions_mut() = self.extensions.clone();
        copy
    }
}

impl<'a, B> From<&'a Request<B>> for RequestRef<'a> {
    fn from(request: &'a Request<B>) -> Self {
        Self {
            method: request.method(),
            uri: request.uri(),
            headers: request.headers(),
            extensions: request.extensions(),
        }
    }
}
