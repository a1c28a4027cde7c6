//! What the layer knows about one request, in the request's extensions: the way from the layer to
//! the handlers, whatever framework they are written for.

use std::cell::Cell;
use std::iter::{Chain, FusedIterator};
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::{option, slice};

use http::Extensions;

use crate::boxed::BoxFuture;
use crate::config::Config;
use crate::keep::cookie::Jar;
use crate::ledger::Ledger;
use crate::program::Program;
use crate::reading::Reading;
use crate::reason::Decisions;
use crate::referral::{Referral, ReferralKey};
use crate::seal::{Envelope, Fields};
use crate::visitor::VisitorId;

/// A request that passed through the layer and has something of ours.
#[derive(Clone)]
pub(crate) enum Visit {
    /// What was decided on the way in.
    Decided(Arc<Ledger>),
    /// The browser sent a cookie, which is verified when a handler asks.
    Unopened(Unopened),
    /// What the browser sent stands for something on the server.
    OnServer(Arc<Reading>),
    /// The application's session is to have a copy, and there is none in the request.
    NoSession,
}

pub(crate) struct Unopened {
    config: Arc<Config>,
    jar: Jar,
    /// The only cookie was verified, and counts. It is read anew by each who asks: that takes
    /// less than keeping what is in it, for most handlers ask once, for the key.
    only_counts: AtomicBool,
    /// What is known of the visitor in any other case, once somebody asks.
    ledger: OnceLock<Box<Ledger>>,
}

impl Clone for Unopened {
    fn clone(&self) -> Self {
        Self {
            config: Arc::clone(&self.config),
            jar: self.jar.clone(),
            only_counts: AtomicBool::new(self.only_counts.load(Ordering::Relaxed)),
            ledger: self.ledger.clone(),
        }
    }
}

/// The mark on a request that passed through the layer and has nothing of ours, where its extensions
/// have something of others' already. It has no size, and the map is there, so it allocates nothing.
#[derive(Clone, Copy)]
struct NothingOfOurs;

thread_local! {
    static IS_INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// While one of these lives, this thread works on a request that passed through the layer: it calls
/// the inner service or polls its future.
///
/// It stands for the mark where the extensions are empty: their first entry takes longer than all
/// the rest that the layer does to nearly every request. Behind axum's `Router` they never are.
pub(crate) struct Inside {
    was_inside: bool,
}

impl Inside {
    #[inline]
    pub(crate) fn enter() -> Self {
        Self {
            was_inside: IS_INSIDE.replace(true),
        }
    }
}

impl Drop for Inside {
    #[inline]
    fn drop(&mut self) {
        IS_INSIDE.set(self.was_inside);
    }
}

/// The request didn't come through a layer that it should have come through:
/// [`ReferralLayer`](crate::ReferralLayer), or, for `AppSession`, tower-sessions'
/// `SessionManagerLayer`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MissingLayer(Missing);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Missing {
    Referrals,
    Sessions,
}

impl std::fmt::Display for MissingLayer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self.0 {
            Missing::Referrals => {
                "this request did not pass through `tower_referral::ReferralLayer`: add \
                 `.layer(referrals)` to the router behind all routes that use a referral (in \
                 axum, a layer covers only the routes that were added before it)"
            }
            Missing::Sessions => {
                "`tower_referral::AppSession` found no `tower_sessions::Session` in this request: \
                 put `SessionManagerLayer` outside `ReferralLayer` (in axum, \
                 `.layer(referrals).layer(session_manager)`), both of the same tower-sessions \
                 version: 0.15 is tower-referral's feature `tower-sessions-0_15`, 0.14 is \
                 `tower-sessions-0_14`"
            }
        })
    }
}

impl std::error::Error for MissingLayer {}

impl Visit {
    #[inline]
    pub(crate) fn unopened(config: &Arc<Config>, jar: &Jar) -> Self {
        Self::Unopened(Unopened {
            config: Arc::clone(config),
            jar: jar.clone(),
            only_counts: AtomicBool::new(false),
            ledger: OnceLock::new(),
        })
    }

    /// Did the request pass through a layer already? Where that one found nothing of ours, and
    /// nothing of others' either, nobody knows, and this layer looks too, to find as much.
    #[inline(always)]
    pub(crate) fn is_marked(extensions: &Extensions) -> bool {
        !extensions.is_empty()
            && (extensions.get::<NothingOfOurs>().is_some() || extensions.get::<Self>().is_some())
    }

    /// Leaves in the extensions what handlers get to see, if there is anything of ours.
    #[inline(always)]
    pub(crate) fn mark(visit: Option<Self>, extensions: &mut Extensions) {
        match visit {
            Some(visit) => drop(extensions.insert(visit)),
            None if extensions.is_empty() => {}
            None => drop(extensions.insert(NothingOfOurs)),
        }
    }

    /// What the layer left in the extensions. `Ok(None)` if there is nothing of ours.
    pub(crate) fn of(extensions: &Extensions) -> Result<Option<&Self>, MissingLayer> {
        match extensions.get::<Self>() {
            Some(Self::NoSession) => Err(MissingLayer(Missing::Sessions)),
            Some(visit) => Ok(Some(visit)),
            None if IS_INSIDE.get() || extensions.get::<NothingOfOurs>().is_some() => Ok(None),
            None => Err(MissingLayer(Missing::Referrals)),
        }
    }
}

/// What a handler can ask for. What it finds nothing of is the default.
pub(crate) trait Asked: Default {
    /// Reads it off the one referral that there is.
    fn of_fields(fields: &Fields<'_>, program: &Program) -> Self;

    /// Reads it off all that is known of the visitor.
    fn of_ledger(ledger: &Ledger) -> Self;
}

/// Answers a handler. Not an `async fn`, so that where it is awaited there is nearly always nothing left of
/// it but a call.
struct Ask<'e, A> {
    extensions: &'e Extensions,
    /// Reads what is on the server.
    reading: Option<BoxFuture<'e, &'e Ledger>>,
    answers: PhantomData<fn() -> A>,
}

impl<'e, A> Ask<'e, A> {
    #[inline]
    fn new(extensions: &'e Extensions) -> Self {
        Self {
            extensions,
            reading: None,
            answers: PhantomData,
        }
    }
}

impl<A: Asked> Future for Ask<'_, A> {
    type Output = Result<A, MissingLayer>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Ready(Ok(match Visit::of(self.extensions)? {
            None | Some(Visit::NoSession) => A::default(),
            Some(Visit::Decided(ledger)) => A::of_ledger(ledger),
            Some(Visit::Unopened(unopened)) => unopened.ask(),
            Some(Visit::OnServer(reading)) => {
                let read = || -> BoxFuture<'_, _> { Box::pin(async { &**reading.ledger().await }) };
                let reading = self.reading.get_or_insert_with(read);
                A::of_ledger(ready!(reading.as_mut().poll(cx)))
            }
        }))
    }
}

impl Unopened {
    /// Verifies what the browser sent, once in a request.
    fn ask<A: Asked>(&self) -> A {
        let mut envelope = Envelope::new();
        match self.open_only(&mut envelope) {
            Some((fields, program)) => A::of_fields(&fields, program),
            None => A::of_ledger(self.ledger.get_or_init(|| Box::new(self.open_all()))),
        }
    }

    /// What is in the only cookie, if that counts.
    #[inline(always)] // as `Fields::read`
    fn open_only<'e>(&'e self, envelope: &'e mut Envelope) -> Option<(Fields<'e>, &'e Program)> {
        if self.ledger.get().is_some() {
            return None;
        }
        let config = &*self.config;
        let only = config.cookies.only(&self.jar)?;
        let program = &config.programs[only.0];
        // Nothing else hangs on the flag, and who doesn't see it yet verifies once more.
        let counts = self.only_counts.load(Ordering::Relaxed);
        let now = (!counts).then(|| config.now());
        match config.cookies.open_only(only, program, now, envelope) {
            Ok(fields) => {
                self.only_counts.store(true, Ordering::Relaxed);
                Some((fields, program))
            }
            Err(fault) => {
                self.keep(Ledger::at_fault(config, only.0, fault));
                None
            }
        }
    }

    fn open_all(&self) -> Ledger {
        let mut ledger = Ledger::new(&self.config);
        ledger.open(&self.config, &self.jar);
        ledger
    }

    #[cold]
    fn keep(&self, ledger: Ledger) {
        self.ledger.get_or_init(|| Box::new(ledger));
    }
}

impl ReferralKey {
    /// The key of the first configured program that holds one, from the extensions of a request:
    /// what the extractor does, for everything but axum. It takes less than all of
    /// [`Referrals::from_extensions`], whose remark on tasks holds here too.
    ///
    /// ```
    /// use http::{Request, Response};
    /// use tower_referral::{MissingLayer, ReferralKey};
    ///
    /// async fn sign_up<B>(request: Request<B>) -> Result<Response<String>, MissingLayer> {
    ///     let key = ReferralKey::from_extensions(request.extensions()).await?;
    ///     Ok(Response::new(match key {
    ///         Some(key) => format!("{key} sent you"),
    ///         None => "Welcome".to_owned(),
    ///     }))
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// The request didn't come through a [`ReferralLayer`](crate::ReferralLayer).
    pub fn from_extensions(
        extensions: &Extensions,
    ) -> impl Future<Output = Result<Option<Self>, MissingLayer>> + Send {
        Ask::new(extensions)
    }
}

impl Referral {
    /// The referral of the first configured program that holds one, from the extensions of a
    /// request: what the extractor does, for everything but axum. The remark of
    /// [`Referrals::from_extensions`] on tasks holds here too, and so does the example of
    /// [`ReferralKey::from_extensions`].
    ///
    /// # Errors
    ///
    /// The request didn't come through a [`ReferralLayer`](crate::ReferralLayer).
    pub fn from_extensions(
        extensions: &Extensions,
    ) -> impl Future<Output = Result<Option<Self>, MissingLayer>> + Send {
        Ask::new(extensions)
    }
}

impl Asked for Option<ReferralKey> {
    fn of_fields(fields: &Fields<'_>, _: &Program) -> Self {
        Some(fields.key())
    }

    fn of_ledger(ledger: &Ledger) -> Self {
        Some(ledger.all_shown().next()?.key().clone())
    }
}

impl Asked for Option<Referral> {
    fn of_fields(fields: &Fields<'_>, program: &Program) -> Self {
        Some(fields.to_referral(program.name.clone()))
    }

    fn of_ledger(ledger: &Ledger) -> Self {
        ledger.all_shown().next().cloned()
    }
}

/// The referrals of one visitor, of each program that holds one.
///
/// An axum extractor that never fails behind the layer. Without axum, read it from the request's
/// extensions with [`from_extensions`](Self::from_extensions).
///
/// ```
/// # #[cfg(feature = "axum")] {
/// use tower_referral::Referrals;
///
/// async fn checkout(referrals: Referrals) -> String {
///     let partner = referrals.get("partners").map_or("nobody", |it| it.key().as_str());
///     let friend = referrals.get("friends").map_or("nobody", |it| it.key().as_str());
///     format!("partner: {partner}, friend: {friend}")
/// }
/// # }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Referrals {
    first: Option<Referral>,
    more: Option<Box<More>>,
}

/// What most visitors have nothing of. Boxed, because [`Referrals`] is moved about with every answer
/// to a handler.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct More {
    /// All but the first.
    referrals: Vec<Referral>,
    visitors: Vec<VisitorId>,
    decisions: Decisions,
}

impl Referrals {
    /// Reads what the layer left in the extensions of a request.
    ///
    /// Outside axum's `Router`, read it in the service's own future and not in a task that it
    /// spawns: to a request that has no extensions and nothing of ours the layer adds none, which
    /// would take longer than all the rest that it does, and is known by working on the request
    /// instead. Behind a `Router` it can be read anywhere.
    ///
    /// # Errors
    ///
    /// The request didn't come through a [`ReferralLayer`](crate::ReferralLayer).
    pub async fn from_extensions(extensions: &Extensions) -> Result<Self, MissingLayer> {
        Ask::new(extensions).await
    }

    /// The referral of the first configured program that holds one.
    #[must_use]
    pub fn first(&self) -> Option<&Referral> {
        self.first.as_ref()
    }

    /// The referral of one program.
    #[must_use]
    pub fn get(&self, program: &str) -> Option<&Referral> {
        self.iter().find(|referral| referral.program() == program)
    }

    /// All of them, in the configured order of the programs.
    #[must_use]
    pub fn iter(&self) -> ReferralsIter<'_> {
        let more = self.more.as_ref().map_or(&[][..], |more| &more.referrals);
        ReferralsIter(self.first.iter().chain(more))
    }

    /// Under which they are on the server, in the configured order of the programs; none where they
    /// are kept in a cookie. Each program's referral has an ID of its own. They are known even while
    /// the store fails.
    #[must_use]
    pub fn visitor_ids(&self) -> &[VisitorId] {
        self.more.as_ref().map_or(&[], |more| &more.visitors)
    }

    /// What was decided on this request's way in, and why.
    #[must_use]
    pub fn decisions(&self) -> &Decisions {
        self.more
            .as_ref()
            .map_or(Decisions::NONE, |more| &more.decisions)
    }
}

impl Asked for Referrals {
    fn of_fields(fields: &Fields<'_>, program: &Program) -> Self {
        Self {
            first: Some(fields.to_referral(program.name.clone())),
            more: None,
        }
    }

    fn of_ledger(ledger: &Ledger) -> Self {
        let mut shown = ledger.all_shown().cloned();
        let first = shown.next();
        let more = More {
            referrals: shown.collect(),
            visitors: ledger.visitors().collect(),
            decisions: ledger.decisions().clone(),
        };
        let has_more = more != More::default();
        Self {
            first,
            more: has_more.then(|| Box::new(more)),
        }
    }
}

impl<'a> IntoIterator for &'a Referrals {
    type Item = &'a Referral;
    type IntoIter = ReferralsIter<'a>;

    fn into_iter(self) -> ReferralsIter<'a> {
        self.iter()
    }
}

/// Goes through [`Referrals`], in the configured order of the programs.
#[derive(Clone, Debug)]
pub struct ReferralsIter<'a>(Chain<option::Iter<'a, Referral>, slice::Iter<'a, Referral>>);

impl<'a> Iterator for ReferralsIter<'a> {
    type Item = &'a Referral;

    fn next(&mut self) -> Option<&'a Referral> {
        self.0.next()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

impl DoubleEndedIterator for ReferralsIter<'_> {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.0.next_back()
    }
}

impl ExactSizeIterator for ReferralsIter<'_> {}

impl FusedIterator for ReferralsIter<'_> {}
