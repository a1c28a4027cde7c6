//! What a browser holds where referrals are kept on the server, read byte by byte and written again, by
//! the format that the crate documents in `seal.rs`.

use crate::message::{Keys, Plain};

const VISITOR: u8 = 128;
const CLICK_IS_DUE: u8 = 1;
const CARRIES: u8 = 2;
const FILLS_ONLY: u8 = 4;

/// A visitor's pass, or a bare referral from before there was a server to keep it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pass<'m> {
    /// `None` for a bare referral.
    pub visitor: Option<[u8; 16]>,
    /// A click waits for the first real page view.
    pub click_is_due: bool,
    /// What the server couldn't take yet.
    pub carried: Option<Plain<'m>>,
    /// It replaces nothing.
    pub fills_only: bool,
}

impl<'m> Pass<'m> {
    /// Reads a message; `None` if any rule is broken.
    pub fn read(message: &'m [u8], keys: Keys) -> Option<Self> {
        let flags = *message.first()?;
        if flags < VISITOR {
            return Some(Self {
                visitor: None,
                click_is_due: false,
                carried: Some(Plain::read(message, keys, false)?),
                fills_only: false,
            });
        }
        let [click_is_due, carries, fills_only] =
            [CLICK_IS_DUE, CARRIES, FILLS_ONLY].map(|flag| flags & flag != 0);
        if flags > VISITOR + 7 || (fills_only && !carries) || message.len() < 17 {
            return None;
        }
        let (head, rest) = message.split_at(17);
        let carried = match (carries, rest.is_empty()) {
            (true, _) => Some(Plain::read(rest, keys, false)?),
            (false, true) => None,
            (false, false) => return None,
        };
        let pass = Self {
            visitor: head[1..].try_into().ok(),
            click_is_due,
            carried,
            fills_only,
        };
        assert_eq!(pass.written(), message, "one message for one pass");
        Some(pass)
    }

    fn written(&self) -> Vec<u8> {
        let Some(visitor) = self.visitor else {
            return self.carried.as_ref().expect("a referral").written();
        };
        let mut flags = VISITOR;
        for (is_set, flag) in [
            (self.click_is_due, CLICK_IS_DUE),
            (self.carried.is_some(), CARRIES),
            (self.fills_only, FILLS_ONLY),
        ] {
            flags += if is_set { flag } else { 0 };
        }
        let mut out = vec![flags];
        out.extend(visitor);
        out.extend(self.carried.iter().flat_map(Plain::written));
        out
    }
}
