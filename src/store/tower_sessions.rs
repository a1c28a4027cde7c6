//! The session stores of tower-sessions, of whichever version, as one kind of backend.

use super::backend::{AppSessionAccess, DeleteExpired, KEY, RecordStore, SessionFinder};

/// A `tower_sessions::SessionStore`, of a version whose feature is on.
///
/// `Version` tells the versions apart and is always inferred. The feature `tower-sessions-0_15`
/// accepts stores for tower-sessions 0.15, `tower-sessions-0_14` those for 0.14; both may be on.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no session store of a tower-sessions version that is enabled",
    note = "a store made for tower-sessions 0.15 needs tower-referral's feature \
            `tower-sessions-0_15`, one for 0.14 (as the released SQLx, Redis and moka stores are) \
            the feature `tower-sessions-0_14`"
)]
pub trait AnySessionStore<Version>: sealed::IntoStore<Version> {}

/// A `tower_sessions::ExpiredDeletion`, of a version whose feature is on; see [`AnySessionStore`].
pub trait AnyExpiredDeletion<Version>: sealed::IntoDeletion<Version> {}

pub(crate) mod sealed {
    use std::sync::Arc;

    use super::{DeleteExpired, RecordStore, SessionFinder};

    /// A store behind a pointer.
    #[derive(Clone)]
    #[expect(missing_debug_implementations, reason = "nobody can name it")]
    pub struct Adapted {
        pub(crate) store: Arc<dyn RecordStore>,
        pub(crate) sessions: SessionFinder,
    }

    /// A deletion behind a pointer.
    #[derive(Clone)]
    #[expect(missing_debug_implementations, reason = "nobody can name it")]
    pub struct AdaptedDeletion(pub(crate) Arc<dyn DeleteExpired>);

    pub trait IntoStore<Version> {
        fn into_store(self) -> Adapted;
    }

    pub trait IntoDeletion<Version> {
        fn into_deletion(self) -> AdaptedDeletion;
    }
}

/// Adapts the stores of one version of tower-sessions, all of which look alike.
macro_rules! adapt {
    ($feature:literal, $module:ident, $version:ident, $core:ident) => {
        #[cfg(feature = $feature)]
        mod $module {
            use std::{
                collections::HashMap,
                future::Future,
                pin::pin,
                sync::Arc,
                task::{Context, Poll, Waker},
            };

            use http::Extensions;
            use serde_json::Value;
            use time::OffsetDateTime;
            use $core::session::{Id, Record};
            use $core::session_store::{self, ExpiredDeletion};
            use $core::{Session, SessionStore};

            use super::{
                AnyExpiredDeletion, AnySessionStore, AppSessionAccess, DeleteExpired, KEY,
                RecordStore, sealed,
            };
            use crate::store::backend::{StoreCall, StoreError};

            /// Marks the stores of one version of tower-sessions.
            #[derive(Debug)]
            #[allow(
                unreachable_pub,
                reason = "never named, and yet not private: it is inferred"
            )]
            pub enum $version {}

            impl<S: SessionStore> AnySessionStore<$version> for S {}
            impl<S: ExpiredDeletion> AnyExpiredDeletion<$version> for S {}

            impl<S: SessionStore> sealed::IntoStore<$version> for S {
                fn into_store(self) -> sealed::Adapted {
                    sealed::Adapted {
                        store: Arc::new(Adapted(self)),
                        sessions: session,
                    }
                }
            }

            impl<S: ExpiredDeletion> sealed::IntoDeletion<$version> for S {
                fn into_deletion(self) -> sealed::AdaptedDeletion {
                    sealed::AdaptedDeletion(Arc::new(Adapted(self)))
                }
            }

            struct Adapted<S>(S);

            fn record(id: i128, text: String, expiry_date: OffsetDateTime) -> Record {
                Record {
                    id: Id(id),
                    data: HashMap::from([(KEY.to_owned(), Value::String(text))]),
                    expiry_date,
                }
            }

            fn kind_of(error: session_store::Error) -> StoreError {
                match error {
                    session_store::Error::Encode(_) | session_store::Error::Decode(_) => {
                        StoreError::Codec
                    }
                    session_store::Error::Backend(_) => StoreError::Backend,
                }
            }

            impl<S: SessionStore> RecordStore for Adapted<S> {
                fn create(
                    &self,
                    id: i128,
                    text: String,
                    expiry: OffsetDateTime,
                ) -> StoreCall<'_, i128> {
                    let mut record = record(id, text, expiry);
                    Box::pin(async move {
                        self.0.create(&mut record).await.map_err(kind_of)?;
                        Ok(record.id.0)
                    })
                }

                fn save(
                    &self,
                    id: i128,
                    text: String,
                    expiry: OffsetDateTime,
                ) -> StoreCall<'_, ()> {
                    let record = record(id, text, expiry);
                    Box::pin(async move { self.0.save(&record).await.map_err(kind_of) })
                }

                fn load(&self, id: i128) -> StoreCall<'_, Option<String>> {
                    Box::pin(async move {
                        let record = self.0.load(&Id(id)).await.map_err(kind_of)?;
                        Ok(record.and_then(|mut record| match record.data.remove(KEY) {
                            Some(Value::String(text)) => Some(text),
                            _ => None,
                        }))
                    })
                }

                fn delete(&self, id: i128) -> StoreCall<'_, ()> {
                    Box::pin(async move { self.0.delete(&Id(id)).await.map_err(kind_of) })
                }
            }

            impl<S: ExpiredDeletion> DeleteExpired for Adapted<S> {
                fn delete_expired(&self) -> StoreCall<'_, ()> {
                    Box::pin(async move { self.0.delete_expired().await.map_err(kind_of) })
                }
            }

            /// Finds the application's own session, which its layer has left in the request.
            fn session(extensions: &Extensions) -> Option<Arc<dyn AppSessionAccess>> {
                let session = extensions.get::<Session>()?.clone();
                Some(Arc::new(AppSession(session)))
            }

            struct AppSession(Session);

            impl AppSessionAccess for AppSession {
                fn is_modified(&self) -> bool {
                    self.0.is_modified()
                }

                fn set(&self, value: Option<Value>) {
                    let set = pin!(async {
                        // An empty session is being ended, and stays so.
                        if self.0.is_empty().await {
                            return;
                        }
                        // A failure leaves the session as it is.
                        match value {
                            Some(value) => drop(self.0.insert_value(KEY, value).await),
                            None => drop(self.0.remove_value(KEY).await),
                        }
                    });
                    // Once: a session that was modified is loaded, and one that isn't stays unloaded.
                    let polled: Poll<()> = set.poll(&mut Context::from_waker(Waker::noop()));
                    let _ = polled;
                }
            }
        }
    };
}

adapt!(
    "tower-sessions-0_14",
    v0_14,
    V0_14,
    tower_sessions_core_0_14
);
adapt!(
    "tower-sessions-0_15",
    v0_15,
    V0_15,
    tower_sessions_core_0_15
);
