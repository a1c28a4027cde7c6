//! When a click is created.

/// When a landing's click is created, and what waits for it: see
/// [`Clicks::timing`](crate::click::Clicks::timing).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClickTiming {
    /// While the page is made, and after it. The page waits for the answer only as long as
    /// [`Clicks::wait`](crate::click::Clicks::wait) says: by default not at all.
    #[default]
    BesideResponse,
    /// While the page is made, and the response waits until the call is over: after the handler is done,
    /// for at most [`Clicks::timeout`](crate::click::Clicks::timeout), and a tenth of a second more where a
    /// spawner doesn't run the call. Nothing of the click runs after the response.
    ///
    /// For AWS Lambda and everything else that stops the process between two requests.
    #[doc(alias("lambda", "freeze"))]
    BeforeResponse,
    /// In the request that the script of the [`CaptureEndpoint`](crate::CaptureEndpoint) sends once the
    /// page is shown. Its answer waits for the call, as above, and its cookie has the click ID. No landing
    /// waits, and nothing is late, on any number of servers.
    ///
    /// Every page that visitors land on needs the script, and the parameter in its URL until that is loaded: so
    /// [`CleanUrlLayer`](crate::CleanUrlLayer) doesn't redirect there. Where the script created no click, because
    /// the browser doesn't run it or the bounds of number and rate turned it away, the visitor's next page view
    /// without a parameter does, from 10 seconds after the landing on: its response waits for the call, once. A
    /// carry token that a handler captures, for a visitor who has consented now, brings its click along: the
    /// response to that `POST` waits for the call.
    ///
    /// A visitor who looks at no other page of the server's has no click then: the key is kept, and sales are
    /// reported by it. A cookie that another response sets while the script waits, for another partner's link in a
    /// second tab, is overwritten by the script's answer.
    #[cfg(feature = "endpoint")]
    AtEndpoint,
}
