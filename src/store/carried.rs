//! How a referral that the cookie carried, because the server couldn't take it, joins what the server has.

use std::sync::Arc;

use crate::attribution::Touch;
use crate::program::Program;
use crate::reason::Reason;
use crate::record::{Loaded, OnServer};
use crate::referral::Referral;
use crate::seal::message::StoredCookie;

impl Loaded {
    /// Lets what the cookie carried join what the server has, under the visitor's ID that handlers have
    /// seen with it wherever that is free.
    pub(super) fn join(
        &mut self,
        program: &Program,
        referral: Arc<Referral>,
        stored: &StoredCookie,
    ) {
        let fills_only = stored.fills_only;
        let is_later_version = self.kept.as_ref().is_some_and(|kept| {
            kept.credits_same(&referral) && kept.captured_at == referral.captured_at
        });
        let touch = Touch {
            fills_only: fills_only.then_some(Reason::KeptOwnLink),
            is_carried: true,
            ..Touch::new(0, referral)
        };
        let decision = program.attribution.decide(self.kept.as_deref(), &touch);
        if is_later_version || decision.is_ok() {
            let record = &mut self.record;
            match record.on_server {
                OnServer::Referral(_) if !is_later_version => {
                    // As with any replacement: a new record, so that an old cookie shows nothing of it.
                    record.follows = record.current.as_ref().map(|current| current.visitor);
                    record.discarded.extend(record.current.take());
                    record.on_server = OnServer::Nothing;
                    record.displaced = self.kept.take();
                }
                OnServer::Nothing => {
                    let own = stored.record.as_ref();
                    let own = own.filter(|own| !record.discarded.contains(own));
                    record.current = own.cloned().or_else(|| record.current.take());
                }
                OnServer::Referral(_) | OnServer::Unknown => {}
            }
            record.fills_only = fills_only;
            self.kept = Some(touch.referral);
        }
    }
}
