//! The clicks of one request: those that came late, those that are due, and those of new touches.

use std::sync::Arc;

use smallvec::SmallVec;

use crate::attribution::ClickDue;
use crate::click::context::ClickContext;
use crate::click::dispatcher::ClickCall;
use crate::clock::UnixMillis;
use crate::config::Config;
use crate::consent::{Permission, Permissions};
use crate::inbound::Inbound;
use crate::referral::{ClickState, TouchId};
use crate::state::{RequestState, Slot, Win};

/// A click that was started in this request.
#[derive(Clone)]
pub(crate) struct StartedClick {
    /// The program's index.
    pub(crate) program: usize,
    /// What it was started for. Something else may have come into its place meanwhile.
    pub(crate) touch: TouchId,
    pub(crate) call: Arc<ClickCall>,
}

/// The clicks that were started in a request.
pub(crate) type StartedClicks = SmallVec<[StartedClick; 1]>;

/// Applies what came since for the clicks that were started earlier. It is written into the cookie, so it
/// waits while consent is unknown.
pub(crate) fn join_late(config: &Config, permissions: &Permissions, state: &mut RequestState) {
    let Some(clicks) = &config.clicks else {
        return;
    };
    for index in 0..state.slots.len() {
        if let Some(kept) = &state.slots[index].kept
            && kept.click != ClickState::Settled
            && let Some(touch) = kept.touch
            && permissions.of(index) == Permission::Granted
            && let Some(result) = clicks.late_result(touch, state.now)
        {
            state.apply_click(config, index, touch, result);
        }
    }
}

/// Starts the click of a touch that won, or leaves it to the visitor's next page view: where the touch says
/// so, and where the bounds turn it away.
pub(crate) fn start(
    config: &Config,
    state: &mut RequestState,
    win: Win,
    context: Option<ClickContext>,
) -> Option<StartedClick> {
    let index = win.program;
    let clicks = config.clicks.as_ref()?;
    let referral = Arc::make_mut(state.slots[index].kept.as_mut()?);
    if win.click == ClickDue::Never || !referral.can_click() {
        return None;
    }
    referral.touch = referral.touch.or_else(|| config.draw_touch());
    let Some(touch) = referral.touch else {
        clicks.note_unnamed();
        return None;
    };
    referral.click = ClickState::Due;
    let (ClickDue::Now, Some(context)) = (win.click, context) else {
        return None;
    };
    let call = clicks.start(referral, touch, context, win.replaced)?;
    referral.click = ClickState::Started;
    Some(StartedClick {
        program: index,
        touch,
        call,
    })
}

/// How long after a landing the script of its page is waited for, in milliseconds. Most pages are loaded by then, and
/// most visitors still look at them.
const SCRIPT_TIME: UnixMillis = 10_000;

/// Returns `true` if this page view is to create the click that is due. Where clicks are created at the endpoint, it
/// is if the script of the landing's page hasn't done so in its time, and this page isn't another one whose script
/// will: so that no two servers create it.
pub(crate) fn may_start_due(
    config: &Config,
    inbound: &Inbound,
    slot: &Slot,
    now: UnixMillis,
) -> bool {
    let landed_at = slot.kept.as_ref().map_or(now, |kept| kept.captured_at);
    let is_left = inbound.landings.is_empty() && now - landed_at >= SCRIPT_TIME;
    slot.due_click().is_some() && inbound.is_page_view && (is_left || !config.clicks_at_endpoint())
}

/// Starts a click that waited for a page view. Of several views at once, in as many tabs, the first one
/// claims it, and the others wait for its result.
pub(crate) fn start_due(
    config: &Config,
    state: &mut RequestState,
    index: usize,
    context: ClickContext,
) -> Option<StartedClick> {
    let clicks = config.clicks.as_ref()?;
    let slot = &mut state.slots[index];
    let referral = slot.kept.as_mut()?;
    if referral.click != ClickState::Due {
        return None;
    }
    let touch = referral.touch?;
    let started = clicks.start_due(referral, touch, context).ok()?;
    Arc::make_mut(referral).click = ClickState::Started;
    slot.changed = true;
    Some(StartedClick {
        program: index,
        touch,
        call: started?,
    })
}
