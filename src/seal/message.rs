//! A referral as bytes, and back.
//!
//! ```text
//! message     = 1 referral                             a referral
//!             | 2 flags key-ID visitor-ID [referral]   a record on the server; flags: 1 a click is due,
//!                                                      2 a referral follows that the server doesn't have
//!                                                      yet, 4 which only fills an empty slot
//! referral    = captured-at    64 bits, milliseconds since the Unix epoch, big-endian
//!               window         32 bits, seconds, big-endian
//!               kind           8 bits: source (1 landing, 2 handler, 3 script), plus 4 for a link of
//!                              the own site, plus 8 for a click that is due or 16 for one that was
//!                              started
//!               present        8 bits: which of the following are there, the first being bit 0
//!               touch          64 bits
//!               refused        32 bits of a Bloom filter of the keys that were refused as own links
//!               program, key, click ID, partner ID, parameter, landing path
//!                              each: length as 8 bits, then UTF-8; never empty
//!               extra          count as 8 bits, then for each: name, value, as above
//! key-ID      = length as 8 bits, bytes: the signing key that the record's ID is derived by
//! visitor-ID  = 128 bits
//! ```
//!
//! The program is absent in a cookie, whose seal binds it. Decoding accepts nothing that encoding doesn't
//! write: what has passed the signature passes the rule of every field again.

use smallvec::SmallVec;
use smol_str::SmolStr;

use super::keyring::SigningKey;
use crate::clock::MAX_UNIX_MILLIS;
use crate::key::{ClickId, KeyRule, ReferralKey};
use crate::names::{MAX_WINDOW_SECONDS, is_param_name, is_program_name};
use crate::program::Program;
use crate::record::RecordRef;
use crate::referral::{ClickState, Rank, Referral, Source, is_extra_value, is_landing_path};
use crate::refused_keys::RefusedKeys;
use crate::visitor::VisitorId;

/// A message, which nearly always fits the stack.
pub(crate) type Message = SmallVec<[u8; 192]>;

const REFERRAL: u8 = 1;
const RECORD: u8 = 2;

const OWN_LINK: u8 = 4;
const CLICK_DUE: u8 = 8;
const CLICK_STARTED: u8 = 16;

const RECORD_CLICK_DUE: u8 = 1;
const RECORD_CARRIES: u8 = 2;
const RECORD_FILLS_ONLY: u8 = 4;

/// How much longer a message is that names a record beside the referral that it carries, at most: flags,
/// key ID, visitor ID.
pub(crate) const MAX_RECORD_LEN: usize = 1 + 1 + SigningKey::MAX_ID_LEN + 16;

/// What a visitor's browser holds where referrals are kept on the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StoredCookie {
    /// `None` for a referral that was kept before there was a server to keep it.
    pub(crate) record: Option<RecordRef>,
    /// A click waits for the visitor's next page view.
    pub(crate) click_is_due: bool,
    /// What the server doesn't have yet.
    pub(crate) carried: Option<Referral>,
    /// What is carried replaces nothing that the server has.
    pub(crate) fills_only: bool,
}

impl StoredCookie {
    /// Returns `true` if the record must be loaded even if no handler asks.
    pub(crate) fn must_load(&self) -> bool {
        self.click_is_due || self.carried.is_some()
    }
}

/// Encodes a referral for a cookie, whose seal names the program. See [`encode_referral`].
pub(crate) fn encode(referral: &Referral, max_len: usize) -> Message {
    let mut out = Message::from_slice(&[REFERRAL]);
    encode_referral(referral, "", max_len.saturating_sub(1), &mut out);
    out
}

/// Encodes a referral that names its program, for a carry token or a record.
pub(crate) fn encode_named(referral: &Referral, max_len: usize) -> Message {
    let mut out = Message::from_slice(&[REFERRAL]);
    let max_len = max_len.saturating_sub(1);
    encode_referral(referral, &referral.program, max_len, &mut out);
    out
}

/// Encodes a reference to a record on the server. What is carried is cut as by [`encode_referral`].
pub(crate) fn encode_stored(
    record: &RecordRef,
    click_is_due: bool,
    carried: Option<(&Referral, bool)>,
    max_len: usize,
) -> Message {
    let mut flags = if click_is_due { RECORD_CLICK_DUE } else { 0 };
    if let Some((_, fills_only)) = carried {
        flags |= RECORD_CARRIES | if fills_only { RECORD_FILLS_ONLY } else { 0 };
    }
    let mut out = Message::from_slice(&[RECORD, flags]);
    put_text(&mut out, &record.key_id);
    out.extend_from_slice(&record.visitor.to_bytes());
    if let Some((referral, _)) = carried {
        let max_len = max_len.saturating_sub(out.len());
        encode_referral(referral, "", max_len, &mut out);
    }
    out
}

/// Appends a referral, leaving out what doesn't fit `max_len` bytes: first the extra parameters from the
/// last one on, then the landing page, then the parameter's name. Key and click ID are never left out,
/// so the result can be longer than `max_len`.
fn encode_referral(referral: &Referral, program: &str, max_len: usize, out: &mut Message) {
    let field = |text: Option<&str>| text.map_or(0, |text| 1 + text.len());
    let texts = [
        Some(program).filter(|program| !program.is_empty()),
        referral.key.as_ref().map(ReferralKey::as_str),
        referral.click_id.as_ref().map(ClickId::as_str),
        referral.partner_id.as_ref().map(ClickId::as_str),
    ];
    let mut parameter = referral.parameter.as_deref();
    let mut path = referral.landing_path.as_deref();
    let mut extra = referral.extra.as_slice();
    let pair_len = |(name, value): &(SmolStr, SmolStr)| 2 + name.len() + value.len();
    let mut len = 15
        + referral.touch.map_or(0, |touch| touch.len())
        + referral.refused.map_or(0, |_| RefusedKeys::LEN)
        + texts.iter().map(|text| field(*text)).sum::<usize>()
        + field(parameter)
        + field(path)
        + extra.iter().map(pair_len).sum::<usize>();
    while len > max_len {
        if let [kept @ .., pair] = extra {
            len -= pair_len(pair);
            extra = kept;
        } else if path.is_some() {
            len -= field(path.take());
        } else {
            // The rest stays, whether it fits or not.
            parameter = None;
            break;
        }
    }
    let source = match referral.source {
        Source::Landing => 1,
        Source::Handler => 2,
        Source::Script => 3,
    };
    let own_link = if referral.rank == Rank::Own {
        OWN_LINK
    } else {
        0
    };
    let click = match referral.click {
        ClickState::Settled => 0,
        ClickState::Due => CLICK_DUE,
        ClickState::Started => CLICK_STARTED,
    };
    let texts = texts.into_iter().chain([parameter, path]);
    let mut present =
        u8::from(referral.touch.is_some()) | u8::from(referral.refused.is_some()) << 1;
    for (bit, text) in texts.clone().enumerate() {
        present |= u8::from(text.is_some()) << (bit + 2);
    }
    out.reserve(len);
    out.extend_from_slice(&referral.captured_at.to_be_bytes());
    out.extend_from_slice(&referral.window.to_be_bytes());
    out.extend_from_slice(&[source | own_link | click, present]);
    out.extend_from_slice(referral.touch.as_ref().map_or(&[], |touch| touch));
    if let Some(refused) = referral.refused {
        out.extend_from_slice(&refused.to_bytes());
    }
    for text in texts.flatten() {
        put_text(out, text);
    }
    out.push(extra.len() as u8);
    for (name, value) in extra {
        put_text(out, name);
        put_text(out, value);
    }
}

/// Every text is at most 255 bytes by its own rule.
fn put_text(out: &mut Message, text: &str) {
    out.push(text.len() as u8);
    out.extend_from_slice(text.as_bytes());
}

/// Decodes a cookie's referral of a program.
pub(crate) fn decode(message: &[u8], program: &Program) -> Option<Referral> {
    let mut reader = Reader(message);
    let [REFERRAL] = reader.array()? else {
        return None;
    };
    decode_referral(reader, &program.key_rule, Some(&program.name))
}

/// Decodes a referral that names its program.
pub(crate) fn decode_named(message: &[u8]) -> Option<Referral> {
    let mut reader = Reader(message);
    let [REFERRAL] = reader.array()? else {
        return None;
    };
    decode_referral(reader, &KeyRule::printable_unicode(), None)
}

/// Decodes a cookie where referrals are kept on the server.
pub(crate) fn decode_stored(message: &[u8], program: &Program) -> Option<StoredCookie> {
    let mut reader = Reader(message);
    let [kind] = reader.array()?;
    if kind != RECORD {
        return Some(StoredCookie {
            record: None,
            click_is_due: false,
            carried: Some(decode(message, program)?),
            fills_only: false,
        });
    }
    let [flags] = reader.array()?;
    let carries = flags & RECORD_CARRIES != 0;
    let is_known = flags & !(RECORD_CLICK_DUE | RECORD_CARRIES | RECORD_FILLS_ONLY) == 0;
    if !is_known || (!carries && flags & RECORD_FILLS_ONLY != 0) {
        return None;
    }
    let key_id = reader.text()?;
    let visitor = VisitorId::from_bytes(reader.array()?);
    let carried = match (carries, reader.0) {
        (true, _) => Some(decode_referral(
            reader,
            &program.key_rule,
            Some(&program.name),
        )?),
        (false, []) => None,
        (false, _) => return None,
    };
    SigningKey::is_id(key_id).then(|| StoredCookie {
        record: Some(RecordRef {
            key_id: key_id.into(),
            visitor,
        }),
        click_is_due: flags & RECORD_CLICK_DUE != 0,
        carried,
        fills_only: flags & RECORD_FILLS_ONLY != 0,
    })
}

/// Decodes a referral to the end. `program` is there where the message doesn't name it.
#[inline]
fn decode_referral(
    mut reader: Reader<'_>,
    rule: &KeyRule,
    program: Option<&SmolStr>,
) -> Option<Referral> {
    let captured_at = i64::from_be_bytes(reader.array()?);
    let window = u32::from_be_bytes(reader.array()?);
    let [kind, present] = reader.array()?;
    let is_present = |bit: u8| present & (1 << bit) != 0;
    let source = match kind & 3 {
        1 => Source::Landing,
        2 => Source::Handler,
        3 => Source::Script,
        _ => return None,
    };
    let rank = Rank::of(source, kind & OWN_LINK != 0)?;
    let touch = reader.array_if(is_present(0))?;
    let refused = reader.array_if(is_present(1))?.map(RefusedKeys::from_bytes);
    let click = match (kind & !7, touch) {
        (0, _) => ClickState::Settled,
        (CLICK_DUE, Some(_)) => ClickState::Due,
        (CLICK_STARTED, Some(_)) => ClickState::Started,
        _ => return None,
    };
    let named = reader.text_if(is_present(2), |text| is_program_name(text.as_bytes()))?;
    let program = match (named, program) {
        (Some(name), None) => name.into(),
        (None, Some(program)) => program.clone(),
        _ => return None,
    };
    let is_click_id = |text: &str| ClickId::is_valid(text.as_bytes());
    let key = reader.text_if(is_present(3), |text| rule.was_accepted(text))?;
    let click_id = reader.text_if(is_present(4), is_click_id)?;
    let partner_id = reader.text_if(is_present(5), is_click_id)?;
    let parameter = reader.text_if(is_present(6), |text| is_param_name(text.as_bytes()))?;
    let landing_path = reader.text_if(is_present(7), |text| is_landing_path(text.as_bytes()))?;
    let [extra_count] = reader.array()?;
    let mut extra = Vec::with_capacity(extra_count.into());
    for _ in 0..extra_count {
        let (name, value) = (reader.text()?, reader.text()?);
        if !is_param_name(name.as_bytes()) || !is_extra_value(value) {
            return None;
        }
        extra.push((name.into(), value.into()));
    }
    let is_valid = reader.0.is_empty()
        && (0..=MAX_UNIX_MILLIS).contains(&captured_at)
        && (1..=MAX_WINDOW_SECONDS).contains(&window)
        && (key.is_some() || click_id.is_some());
    is_valid.then(|| Referral {
        key: key.map(ReferralKey::valid),
        click_id: click_id.map(ClickId::valid),
        partner_id: partner_id.map(ClickId::valid),
        program,
        source,
        rank,
        touch,
        click,
        captured_at,
        window,
        parameter: parameter.map(SmolStr::new),
        landing_path: landing_path.map(SmolStr::new),
        refused,
        extra,
    })
}

/// Reads fields off the front.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (array, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*array)
    }

    fn text(&mut self) -> Option<&'a str> {
        let (len, rest) = self.0.split_first()?;
        let (bytes, rest) = rest.split_at_checked(usize::from(*len))?;
        self.0 = rest;
        std::str::from_utf8(bytes).ok()
    }

    /// Reads an array that may be absent. The outer `None` is a malformed message.
    #[expect(clippy::option_option, reason = "absent and malformed are two things")]
    fn array_if<const N: usize>(&mut self, is_present: bool) -> Option<Option<[u8; N]>> {
        if is_present {
            self.array().map(Some)
        } else {
            Some(None)
        }
    }

    /// Reads a text that may be absent and must pass its rule. The outer `None` is a malformed message.
    #[expect(clippy::option_option, reason = "absent and malformed are two things")]
    fn text_if(
        &mut self,
        is_present: bool,
        is_valid: impl FnOnce(&str) -> bool,
    ) -> Option<Option<&'a str>> {
        if !is_present {
            return Some(None);
        }
        let text = self.text()?;
        (!text.is_empty() && is_valid(text)).then_some(Some(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn referral() -> Referral {
        Referral {
            key: Some("PARTNER_123".parse().unwrap()),
            click_id: None,
            partner_id: None,
            program: "default".into(),
            source: Source::Landing,
            rank: Rank::Outside,
            touch: Some([7; 8]),
            click: ClickState::Started,
            captured_at: 1_800_000_000_000,
            window: 2_592_000,
            parameter: Some("aff".into()),
            landing_path: Some("/pricing".into()),
            refused: None,
            extra: Vec::new(),
        }
    }

    fn whole() -> Referral {
        Referral {
            click_id: Some("CLICK".parse().unwrap()),
            partner_id: Some("PARTNER".parse().unwrap()),
            refused: Some(RefusedKeys::from_bytes([1, 2, 3, 4])),
            extra: vec![("utm".into(), "mail".into()), ("sub_id".into(), "7".into())],
            ..referral()
        }
    }

    #[test]
    fn the_usual_referral_is_one_block_of_sha_256() {
        let message = encode(&referral(), usize::MAX);
        assert!(message.len() <= 55, "{} bytes", message.len());
    }

    #[test]
    fn every_referral_comes_back_and_nothing_else_is_read() {
        let program = Program::default();
        let mut own = whole();
        own.rank = Rank::Own;
        let mut script = referral();
        (script.source, script.rank, script.touch) = (Source::Script, Rank::Script, None);
        script.click = ClickState::Settled;
        let mut keyless = whole();
        keyless.key = None;
        keyless.click = ClickState::Due;
        for referral in [referral(), whole(), own, script, keyless] {
            let message = encode(&referral, usize::MAX);
            assert_eq!(decode(&message, &program), Some(referral.clone()));
            let named = encode_named(&referral, usize::MAX);
            assert_eq!(decode_named(&named), Some(referral.clone()));
            assert_eq!(decode(&named, &program), None);
            assert_eq!(decode_named(&message), None);
            for at in 0..message.len() {
                assert_eq!(decode(&message[..at], &program), None, "{at}");
            }
            let mut longer = message.clone();
            longer.push(0);
            assert_eq!(decode(&longer, &program), None);
            // Whatever a changed byte reads as is written in the same bytes.
            for at in 0..message.len() {
                for byte in 0..=255 {
                    let mut changed = message.clone();
                    changed[at] = byte;
                    if let Some(read) = decode(&changed, &program) {
                        assert_eq!(encode(&read, usize::MAX), changed, "{at}: {byte}");
                    }
                }
            }
        }
    }

    #[test]
    fn what_does_not_fit_is_left_out_to_the_byte() {
        // With less and less of it, in the order in which it goes.
        let mut steps = vec![whole()];
        let leave_out: [fn(&mut Referral); 4] = [
            |referral| drop(referral.extra.pop()),
            |referral| drop(referral.extra.pop()),
            |referral| referral.landing_path = None,
            |referral| referral.parameter = None,
        ];
        for leave_out in leave_out {
            let mut less = steps[steps.len() - 1].clone();
            leave_out(&mut less);
            steps.push(less);
        }
        for two in steps.windows(2) {
            let [more, less] = [&two[0], &two[1]].map(|one| encode_named(one, usize::MAX));
            assert_eq!(encode_named(&whole(), more.len()), more);
            assert_eq!(encode_named(&whole(), more.len() - 1), less);
        }
        let least = encode_named(&steps[4], usize::MAX);
        assert_eq!(encode_named(&whole(), 0), least, "key and click ID stay");
    }

    #[test]
    fn a_reference_to_a_record_comes_back() {
        let program = Program::default();
        let record = RecordRef {
            key_id: "k1".into(),
            visitor: VisitorId::from_bytes([9; 16]),
        };
        for click_is_due in [false, true] {
            for carried in [None, Some(false), Some(true)] {
                let referral = referral();
                let holding = carried.map(|fills_only| (&referral, fills_only));
                let message = encode_stored(&record, click_is_due, holding, usize::MAX);
                let stored = StoredCookie {
                    record: Some(record.clone()),
                    click_is_due,
                    carried: carried.map(|_| referral.clone()),
                    fills_only: carried == Some(true),
                };
                assert_eq!(decode_stored(&message, &program), Some(stored));
                assert_eq!(decode(&message, &program), None);
                for flags in 0..=255 {
                    let mut changed = message.clone();
                    changed[1] = flags;
                    let same = flags & !RECORD_CLICK_DUE == message[1] & !RECORD_CLICK_DUE;
                    let other = carried.is_some() && matches!(flags, 2 | 3 | 6 | 7);
                    let is_read = decode_stored(&changed, &program).is_some();
                    assert_eq!(is_read, same || other, "{flags}");
                }
            }
        }
        let bare = decode_stored(&encode(&whole(), usize::MAX), &program).unwrap();
        assert_eq!((bare.record, bare.carried), (None, Some(whole())));
    }
}
