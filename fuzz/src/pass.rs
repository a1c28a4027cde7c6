//! What a browser holds where referrals are kept on the server, read byte by byte and written again, by
//! the format that the crate documents in `seal/message.rs`.

use crate::message::{Keys, Plain};

const RECORD: u8 = 2;
const CLICK_IS_DUE: u8 = 1;
const CARRIES: u8 = 2;
const FILLS_ONLY: u8 = 4;

/// What names a visitor's record, or a bare referral from before there was a server to keep it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pass<'m> {
    /// The key that the record's ID is derived by, and the visitor; `None` for a bare referral.
    pub record: Option<(&'m str, [u8; 16])>,
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
        if message.first()? != &RECORD {
            return Some(Self {
                record: None,
                click_is_due: false,
                carried: Some(Plain::read(message, keys, false)?),
                fills_only: false,
            });
        }
        let flags = *message.get(1)?;
        let [click_is_due, carries, fills_only] =
            [CLICK_IS_DUE, CARRIES, FILLS_ONLY].map(|flag| flags & flag != 0);
        if flags > 7 || (fills_only && !carries) {
            return None;
        }
        let id_len = usize::from(*message.get(2)?);
        let id = std::str::from_utf8(message.get(3..3 + id_len)?).ok()?;
        let is_id = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        if !(1..=16).contains(&id_len) || !id.bytes().all(is_id) {
            return None;
        }
        let (visitor, rest) = message[3 + id_len..].split_first_chunk::<16>()?;
        let carried = match (carries, rest.is_empty()) {
            (true, _) => Some(Plain::read_referral(rest, keys, false)?),
            (false, true) => None,
            (false, false) => return None,
        };
        let pass = Self {
            record: Some((id, *visitor)),
            click_is_due,
            carried,
            fills_only,
        };
        assert_eq!(pass.written(), message, "one message for one pass");
        Some(pass)
    }

    fn written(&self) -> Vec<u8> {
        let Some((id, visitor)) = self.record else {
            return self.carried.as_ref().expect("a referral").written();
        };
        let mut flags = 0;
        for (is_set, flag) in [
            (self.click_is_due, CLICK_IS_DUE),
            (self.carried.is_some(), CARRIES),
            (self.fills_only, FILLS_ONLY),
        ] {
            flags += if is_set { flag } else { 0 };
        }
        let mut out = vec![RECORD, flags, id.len() as u8];
        out.extend(id.as_bytes());
        out.extend(visitor);
        out.extend(self.carried.iter().flat_map(Plain::referral_bytes));
        out
    }
}
