//! The one wire format, for cookies and carry tokens: how a referral becomes bytes, how bytes are
//! signed, and the way back. It knows nothing of cookies, headers or clocks.
//!
//! ```text
//! sealed   = base64url(envelope) base64url(tag)        unpadded; the tag is the last 43 characters
//! envelope = version key-ID message                    version = 1; key-ID = length, bytes
//! tag      = HMAC-SHA256(sub-key, message)             all 32 bytes
//! sub-key  = HMAC-SHA256(secret, item("tower-referral") item(version) item(purpose)
//!                                item(audience) item(key-ID))
//! item(x)  = length of x as 16 bits, big-endian, then x
//! ```
//!
//! Version, purpose, audience and key ID are bound by the sub-key, which is derived once when the
//! layer is built, so that the message is all that a request has to hash: for a usual referral
//! 55 bytes or fewer, which is a single block of SHA-256. Deriving keys with the same PRF from
//! length-prefixed labels is the construction of NIST SP 800-108r1 section 4.1 with a counter of
//! one.
//!
//! Every decoder here is strict: one sealed text for one referral, and anything else is no seal.

use std::mem::MaybeUninit;

use base64_simd::{AsOut, URL_SAFE_NO_PAD};
use constant_time_eq::constant_time_eq;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use smol_str::SmolStr;

use crate::keyring::{Keyring, SigningKey};
use crate::program::{MAX_WINDOW_SECONDS, is_param_name, is_program_name};
use crate::referral::{
    Click, ClickId, KeyRule, MAX_UNIX_MILLIS, Referral, ReferralKey, Source, UnixMillis,
    is_extra_value, is_landing_path,
};
use crate::visitor::VisitorId;

const VERSION: u8 = 1;
/// 32 bytes in unpadded base64url.
const TAG_LEN: usize = 43;
/// The longest envelope that is ever written or read, in bytes.
const MAX_ENVELOPE_LEN: usize = 768;
/// The longest sealed text that is ever written or read, in characters.
pub(crate) const MAX_SEALED_LEN: usize = encoded_len(MAX_ENVELOPE_LEN) + TAG_LEN;

/// What a sealed value is for. A value sealed for one purpose or audience doesn't open for
/// another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose<'a> {
    /// A cookie; the audience is its whole name.
    Cookie { name: &'a str },
    /// A carry token.
    Carry { purpose: &'a str, audience: &'a str },
}

/// The sub-keys of a keyring for one purpose.
#[derive(Clone)]
pub(crate) struct Seal {
    signing: SubKey,
    old: Vec<SubKey>,
}

#[derive(Clone)]
struct SubKey {
    /// Version and key ID, as every envelope under this key begins.
    head: Vec<u8>,
    /// Prepared: the key's own two blocks are hashed already.
    mac: Hmac<Sha256>,
}

/// Why a text isn't a seal of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SealError {
    /// Not of the format, or of another version of it.
    Malformed,
    /// Signed by a key that isn't on the keyring.
    UnknownKey,
    /// Not signed by us, or for another purpose.
    BadSignature,
}

impl Seal {
    pub(crate) fn new(keyring: &Keyring, purpose: Purpose<'_>) -> Self {
        let mut sub_keys = keyring.keys().map(|key| SubKey::derive(key, purpose));
        // A keyring always has its signing key, and names it first.
        let signing = sub_keys
            .next()
            .unwrap_or_else(|| SubKey::derive(keyring.signing_key(), purpose));
        Self {
            signing,
            old: sub_keys.collect(),
        }
    }

    /// The length of the sealed text for a message of `len` bytes, in characters.
    pub(crate) fn sealed_len(&self, len: usize) -> usize {
        encoded_len(self.signing.head.len() + len) + TAG_LEN
    }

    /// Seals a message, which `write` puts into what it is given.
    pub(crate) fn seal(&self, write: impl FnOnce(&mut Envelope), envelope: &mut Envelope) -> Tag {
        let head = &self.signing.head;
        envelope.put(head);
        write(envelope);
        self.signing.tag(&envelope.as_bytes()[head.len()..])
    }

    /// Verifies `sealed` and gives its message, decoded into `buffer`.
    pub(crate) fn open<'b>(
        &self,
        sealed: &[u8],
        buffer: &'b mut Buffer,
    ) -> Result<&'b [u8], SealError> {
        let envelope_len = sealed.len().checked_sub(TAG_LEN);
        let (encoded, tag) = sealed.split_at(envelope_len.ok_or(SealError::Malformed)?);
        let envelope = decode_text(encoded, &mut buffer.0).ok_or(SealError::Malformed)?;
        let mut tag_bytes = [MaybeUninit::uninit(); 32];
        let tag = decode_text(tag, &mut tag_bytes).ok_or(SealError::Malformed)?;
        let sub_key = self.sub_key_of(envelope)?;
        let message = &envelope[sub_key.head.len()..];
        if constant_time_eq(&sub_key.tag(message), tag) {
            Ok(message)
        } else {
            Err(SealError::BadSignature)
        }
    }

    /// Gives the message of a sealed text that was verified before.
    pub(crate) fn reread<'b>(&self, sealed: &[u8], buffer: &'b mut Buffer) -> Option<&'b [u8]> {
        let encoded = &sealed[..sealed.len().checked_sub(TAG_LEN)?];
        let envelope = decode_text(encoded, &mut buffer.0)?;
        let sub_key = self.sub_key_of(envelope).ok()?;
        Some(&envelope[sub_key.head.len()..])
    }

    /// The one key that the envelope names.
    fn sub_key_of(&self, envelope: &[u8]) -> Result<&SubKey, SealError> {
        match envelope {
            [VERSION, id_len, rest @ ..]
                if (1..=SigningKey::MAX_ID_LEN).contains(&usize::from(*id_len))
                    && rest.len() >= usize::from(*id_len) => {}
            _ => return Err(SealError::Malformed),
        }
        std::iter::once(&self.signing)
            .chain(&self.old)
            .find(|key| envelope.starts_with(&key.head))
            .ok_or(SealError::UnknownKey)
    }
}

/// The tag of a sealed message, not yet in base64url.
pub(crate) type Tag = [u8; 32];

/// Where a message is written to.
pub(crate) trait Put {
    fn put(&mut self, bytes: &[u8]);
}

impl Put for Vec<u8> {
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

/// Version, key ID and message, on the stack.
pub(crate) struct Envelope {
    bytes: [u8; MAX_ENVELOPE_LEN],
    len: usize,
}

impl Envelope {
    pub(crate) const fn new() -> Self {
        Self {
            bytes: [0; MAX_ENVELOPE_LEN],
            len: 0,
        }
    }

    fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    /// The length of the sealed text, in characters.
    pub(crate) fn sealed_len(&self) -> usize {
        encoded_len(self.len) + TAG_LEN
    }

    /// Appends the sealed text to `out`; as bytes, because base64url needs no check that it is UTF-8.
    pub(crate) fn write(&self, tag: &Tag, out: &mut Vec<u8>) {
        URL_SAFE_NO_PAD.encode_append(self.as_bytes(), out);
        URL_SAFE_NO_PAD.encode_append(tag, out);
    }
}

impl Put for Envelope {
    /// What doesn't fit isn't written at all, and makes a text that doesn't open. Nothing that is
    /// sealed is as long: see the assertion at the end of `seal.rs`.
    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        // Most optional fields are empty, and copying nothing takes as long as copying something.
        if !bytes.is_empty()
            && let Some(place) = self.bytes.get_mut(self.len..self.len + bytes.len())
        {
            place.copy_from_slice(bytes);
            self.len += bytes.len();
        }
    }
}

impl SubKey {
    fn derive(key: &SigningKey, purpose: Purpose<'_>) -> Self {
        let id = key.id().as_bytes();
        let [purpose, audience] = match purpose {
            Purpose::Cookie { name } => ["cookie".to_owned(), name.to_owned()],
            Purpose::Carry { purpose, audience } => {
                [format!("carry:{purpose}"), audience.to_owned()]
            }
        };
        let mut derivation = mac_with(key.secret());
        for item in [
            b"tower-referral",
            &[VERSION][..],
            purpose.as_bytes(),
            audience.as_bytes(),
            id,
        ] {
            // Purposes and audiences are at most 64 and 253 characters by their own rules.
            derivation.update(&(item.len() as u16).to_be_bytes());
            derivation.update(item);
        }
        let mut head = vec![VERSION, id.len() as u8];
        head.extend_from_slice(id);
        Self {
            head,
            mac: mac_with(&derivation.finalize().into_bytes()),
        }
    }

    fn tag(&self, message: &[u8]) -> Tag {
        let mut mac = self.mac.clone();
        mac.update(message);
        mac.finalize().into_bytes().into()
    }
}

/// The length of the base64url of so many bytes.
const fn encoded_len(len: usize) -> usize {
    (len * 4).div_ceil(3)
}

/// The value of `text`, in the front of `buffer`. `None` if it isn't the one base64url of a value,
/// or if the buffer is too short.
fn decode_text<'b>(text: &[u8], buffer: &'b mut [MaybeUninit<u8>]) -> Option<&'b [u8]> {
    let place = buffer.get_mut(..text.len() * 3 / 4)?;
    Some(URL_SAFE_NO_PAD.decode(text, place.as_out()).ok()?)
}

fn mac_with(key: &[u8]) -> Hmac<Sha256> {
    <Hmac<Sha256> as KeyInit>::new_from_slice(key).expect("HMAC takes keys of any length")
}

/// Room on the stack for a decoded envelope. Filled with nothing beforehand, which would take as long
/// as decoding.
pub(crate) struct Buffer([MaybeUninit<u8>; MAX_ENVELOPE_LEN]);

impl Buffer {
    pub(crate) const fn new() -> Self {
        Self([MaybeUninit::uninit(); MAX_ENVELOPE_LEN])
    }
}

// ===== A referral as a message =====
//
// captured-at   64 bits, milliseconds since the Unix epoch, big-endian
// window        32 bits, seconds, big-endian
// source        8 bits: 1 landing, 2 handler, 3 script, 4 landing whose click is still due
// touch         length as 8 bits, 0 or 8, then the random name of the touch whose click was started
//               or is due
// program, key, click ID, parameter, landing path
//               each: length as 8 bits, then UTF-8; an empty one is absent
// extra         count as 8 bits, then for each: name, value, as above
//
// The program is empty in a cookie: the cookie's name, which the sub-key binds, says it.

/// Appends the message for `referral` to `out`, leaving out what doesn't fit `max_len` bytes: first
/// the extra parameters from the last one on, then the landing page, then the parameter's name.
/// The key and the click ID are never left out, so the result can be longer than `max_len`.
pub(crate) fn encode(referral: &Referral, program: &str, max_len: usize, out: &mut impl Put) {
    let field = |text: Option<&str>| 1 + text.map_or(0, str::len);
    let click_id = referral.click_id.as_ref().map(ClickId::as_str);
    let mut parameter = referral.parameter.as_deref();
    let mut path = referral.landing_path.as_deref();
    let mut extra = referral.extra.as_slice();

    let touch: &[u8] = match &referral.click {
        Click::Started(touch) | Click::Due(touch) => touch,
        Click::None => &[],
    };
    let mut len = 8
        + 4
        + 1
        + 1
        + touch.len()
        + 1
        + field(Some(program))
        + field(Some(referral.key.as_str()))
        + field(click_id)
        + field(parameter)
        + field(path)
        + extra
            .iter()
            .map(|(n, v)| 2 + n.len() + v.len())
            .sum::<usize>();
    while len > max_len {
        if let [kept @ .., (name, value)] = extra {
            len -= 2 + name.len() + value.len();
            extra = kept;
        } else if let Some(dropped) = path.take() {
            len -= dropped.len();
        } else {
            // The rest stays, whether it fits or not.
            parameter = None;
            break;
        }
    }

    out.put(&referral.captured_at.to_be_bytes());
    out.put(&referral.window.to_be_bytes());
    let source = match (referral.source, referral.click) {
        (Source::Landing, Click::Due(_)) => 4,
        (Source::Landing, _) => 1,
        (Source::Handler, _) => 2,
        (Source::Script, _) => 3,
    };
    out.put(&[source, touch.len() as u8]);
    out.put(touch);
    let mut put = |text: &str| {
        // Every field is at most 255 bytes by its own rule.
        out.put(&[text.len() as u8]);
        out.put(text.as_bytes());
    };
    put(program);
    put(referral.key.as_str());
    put(click_id.unwrap_or_default());
    put(parameter.unwrap_or_default());
    put(path.unwrap_or_default());
    out.put(&[extra.len() as u8]);
    for text in extra.iter().flat_map(|(name, value)| [name, value]) {
        out.put(&[text.len() as u8]);
        out.put(text.as_bytes());
    }
}

// ===== A visitor as a message, where referrals are kept on the server =====
//
// flags         8 bits: 128, plus 1 if a click is due, 2 if a referral follows, 4 if that referral
//               may only fill an empty place
// ID            128 bits
// referral      as above, if the flags say so
//
// No referral's message begins so: the first byte of its captured-at is zero.

const VISITOR: u8 = 128;
const CLICK_IS_DUE: u8 = 1;
const CARRIES: u8 = 2;
const FILLS_ONLY: u8 = 4;

/// What a visitor's browser holds where referrals are kept on the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pass {
    /// `None` for a referral that was kept before there was a server to keep it.
    pub(crate) visitor: Option<VisitorId>,
    /// A click waits for the visitor's first real page view.
    pub(crate) click_is_due: bool,
    /// What the server couldn't take yet.
    pub(crate) carried: Option<Referral>,
    /// What is carried replaces nothing that the server has.
    pub(crate) fills_only: bool,
}

/// Appends the message for a visitor to `out`. What is carried is cut to `max_len` as by
/// [`encode`].
pub(crate) fn encode_visitor(
    visitor: VisitorId,
    click_is_due: bool,
    carried: Option<(&Referral, bool)>,
    max_len: usize,
    out: &mut Envelope,
) {
    let mut flags = VISITOR;
    if click_is_due {
        flags |= CLICK_IS_DUE;
    }
    if let Some((_, fills_only)) = carried {
        flags |= CARRIES | if fills_only { FILLS_ONLY } else { 0 };
    }
    let id = visitor.to_bytes();
    out.put(&[flags]);
    out.put(&id);
    if let Some((referral, _)) = carried {
        encode(referral, "", max_len.saturating_sub(1 + id.len()), out);
    }
}

/// Reads a visitor's message back, or a bare referral's. `None` for anything that neither
/// [`encode_visitor`] nor [`encode`] writes.
pub(crate) fn decode_pass(message: &[u8], rule: &KeyRule) -> Option<Pass> {
    let mut reader = Reader::new(message);
    let [flags] = reader.array()?;
    if flags & VISITOR == 0 {
        return Some(Pass {
            visitor: None,
            click_is_due: false,
            carried: Some(decode(message, rule, false)?),
            fills_only: false,
        });
    }
    let carries = flags & CARRIES != 0;
    let is_known = flags & !(VISITOR | CLICK_IS_DUE | CARRIES | FILLS_ONLY) == 0;
    if !is_known || (!carries && flags & FILLS_ONLY != 0) {
        return None;
    }
    let visitor = VisitorId::from_bytes(reader.array()?);
    let carried = match (carries, reader.rest) {
        (true, message) => Some(decode(message, rule, false)?),
        (false, []) => None,
        (false, _) => return None,
    };
    Some(Pass {
        visitor: Some(visitor),
        click_is_due: flags & CLICK_IS_DUE != 0,
        carried,
        fills_only: flags & FILLS_ONLY != 0,
    })
}

/// Reads a referral's message back. `None` for anything that [`encode`] doesn't write: what has
/// passed the signature must pass the rules of every field again.
pub(crate) fn decode(message: &[u8], rule: &KeyRule, names_program: bool) -> Option<Referral> {
    let fields = Fields::read(message, rule, names_program)?;
    Some(fields.to_referral(SmolStr::new(fields.program)))
}

/// The fields of a message, each by its rule, where they stand in it.
pub(crate) struct Fields<'m> {
    pub(crate) captured_at: UnixMillis,
    pub(crate) window: u32,
    source: Source,
    click: Click,
    program: &'m str,
    key: &'m str,
    click_id: &'m str,
    parameter: &'m str,
    landing_path: &'m str,
    /// As many pairs of name and value.
    extra_count: u8,
    extra: Reader<'m>,
}

impl<'m> Fields<'m> {
    pub(crate) fn read(message: &'m [u8], rule: &KeyRule, names_program: bool) -> Option<Self> {
        let mut reader = Reader::new(message);
        let captured_at = i64::from_be_bytes(reader.array()?);
        let window = u32::from_be_bytes(reader.array()?);
        let [source, touch_len] = reader.array()?;
        let click = match (source, touch_len) {
            (1..=3, 0) => Click::None,
            (4, 8) => Click::Due(reader.array()?),
            (1..=3, 8) => Click::Started(reader.array()?),
            _ => return None,
        };
        reader.check_fields();
        let program = reader.text()?;
        let key = reader.text()?;
        let click_id = reader.text()?;
        let parameter = reader.text()?;
        let landing_path = reader.text()?;
        let [extra_count] = reader.array()?;
        let extra = reader.clone();
        for _ in 0..extra_count {
            let (name, value) = (reader.text()?, reader.text()?);
            if !is_param_name(name) || !is_extra_value(value) {
                return None;
            }
        }
        let is_valid = reader.rest.is_empty()
            && (0..=MAX_UNIX_MILLIS).contains(&captured_at)
            && (1..=MAX_WINDOW_SECONDS).contains(&window)
            && (if names_program {
                is_program_name(program)
            } else {
                program.is_empty()
            })
            && rule.is_kept(key)
            && (click_id.is_empty() || ClickId::is_valid(click_id))
            && (parameter.is_empty() || is_param_name(parameter))
            && (landing_path.is_empty() || is_landing_path(landing_path));
        is_valid.then_some(Self {
            captured_at,
            window,
            source: match source {
                1 | 4 => Source::Landing,
                2 => Source::Handler,
                _ => Source::Script,
            },
            click,
            program,
            key,
            click_id,
            parameter,
            landing_path,
            extra_count,
            extra,
        })
    }

    /// Shortens the window to that long at most, in seconds.
    pub(crate) fn cut_to(&mut self, window: u32) {
        self.window = self.window.min(window);
    }

    pub(crate) fn key(&self) -> ReferralKey {
        ReferralKey::valid(self.key)
    }

    #[inline]
    pub(crate) fn to_referral(&self, program: SmolStr) -> Referral {
        let optional = |text: &str| (!text.is_empty()).then(|| SmolStr::new(text));
        let mut extra = self.extra.clone();
        Referral {
            key: self.key(),
            click_id: (!self.click_id.is_empty()).then(|| ClickId::valid(self.click_id)),
            click: self.click,
            program,
            source: self.source,
            captured_at: self.captured_at,
            window: self.window,
            parameter: optional(self.parameter),
            landing_path: optional(self.landing_path),
            extra: (0..self.extra_count)
                .filter_map(|_| Some((extra.text()?.into(), extra.text()?.into())))
                .collect(),
        }
    }
}

/// Reads fields off the front.
#[derive(Clone)]
struct Reader<'a> {
    rest: &'a [u8],
    /// All fields in one, lengths included, if that is UTF-8. It is unless a field has over 127
    /// bytes, and checking it once takes less than checking each.
    fields: &'a str,
}

impl<'a> Reader<'a> {
    fn new(message: &'a [u8]) -> Self {
        Self {
            rest: message,
            fields: "",
        }
    }

    /// Says that from here on there are only texts.
    fn check_fields(&mut self) {
        self.fields = std::str::from_utf8(self.rest).unwrap_or_default();
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (array, rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        Some(*array)
    }

    fn text(&mut self) -> Option<&'a str> {
        let [len] = self.array()?;
        let (text, rest) = self.rest.split_at_checked(len.into())?;
        let checked = self.fields.len().checked_sub(self.rest.len());
        self.rest = rest;
        match checked {
            Some(start) => self.fields.get(start..start + text.len()),
            None => std::str::from_utf8(text).ok(),
        }
    }
}

// The longest key and click ID, and the longest key ID in front, fit an envelope with room for
// the rest; what doesn't fit is dropped by `encode`.
const _: () = assert!(
    2 + SigningKey::MAX_ID_LEN + 64 + ReferralKey::MAX_BYTES + ClickId::MAX_LEN < MAX_ENVELOPE_LEN
);

#[cfg(test)]
mod tests {
    use super::*;

    fn seal() -> Seal {
        let key = SigningKey::new("k1", (0..32).collect::<Vec<u8>>()).unwrap();
        Seal::new(&Keyring::new(key), Purpose::Cookie { name: "c" })
    }

    fn referral() -> Referral {
        Referral {
            key: "PARTNER_123".parse().unwrap(),
            click_id: None,
            click: Click::Started([7; 8]),
            program: SmolStr::default(),
            source: Source::Landing,
            captured_at: 1_800_000_000_000,
            window: 2_592_000,
            parameter: Some("aff".into()),
            landing_path: Some("/pricing".into()),
            extra: Vec::new(),
        }
    }

    fn encoded(referral: &Referral, program: &str, max_len: usize) -> Vec<u8> {
        let mut message = Vec::new();
        encode(referral, program, max_len, &mut message);
        message
    }

    #[test]
    fn the_usual_referral_is_one_block_of_sha_256() {
        let referral = referral();
        let message = encoded(&referral, "", MAX_ENVELOPE_LEN);
        assert!(message.len() <= 55, "{} bytes", message.len());
        assert_eq!(decode(&message, &KeyRule::ascii(), false), Some(referral));
    }

    #[test]
    fn nothing_but_the_sealed_text_opens() {
        // One message for each way in which base64 can end, and one over several vectors.
        for message in [&b"message"[..], b"messages", b"a message", &[b'm'; 100]] {
            let mut sealed = Vec::new();
            let mut envelope = Envelope::new();
            let tag = seal().seal(|out| out.put(message), &mut envelope);
            envelope.write(&tag, &mut sealed);
            assert_eq!(sealed.len(), seal().sealed_len(message.len()));
            let mut buffer = Buffer::new();
            assert_eq!(seal().open(&sealed, &mut buffer), Ok(message));
            for at in 0..sealed.len() {
                for byte in 0..=255 {
                    let mut forged = sealed.clone();
                    if forged[at] != byte {
                        forged[at] = byte;
                        assert!(seal().open(&forged, &mut buffer).is_err(), "{at}: {byte}");
                    }
                }
                assert!(seal().open(&sealed[..at], &mut buffer).is_err());
            }
        }
    }

    #[test]
    fn text_longer_than_any_envelope_does_not_open() {
        let text = [b'A'; encoded_len(MAX_ENVELOPE_LEN) + 4 + TAG_LEN];
        let mut buffer = Buffer::new();
        let opened = seal().open(&text, &mut buffer);
        assert_eq!(opened, Err(SealError::Malformed));
    }

    #[test]
    fn a_key_id_that_nobody_has_is_unknown_and_one_that_cannot_be_is_malformed() {
        let opened = |envelope: &[u8]| {
            let text = URL_SAFE_NO_PAD.encode_to_string(envelope) + &"A".repeat(TAG_LEN);
            seal().open(text.as_bytes(), &mut Buffer::new()).err()
        };
        let with_id =
            |said: usize, len: usize| [&[VERSION, said as u8][..], &vec![b'x'; len]].concat();
        let longest = SigningKey::MAX_ID_LEN;
        for (said, len) in [(1, 1), (1, 9), (3, 3), (longest, longest), (longest, 99)] {
            let error = opened(&with_id(said, len));
            assert_eq!(error, Some(SealError::UnknownKey), "{said} of {len}");
        }
        for (said, len) in [
            (0, 0),
            (0, 9),
            (1, 0),
            (4, 3),
            (longest + 1, 99),
            (255, 255),
        ] {
            let error = opened(&with_id(said, len));
            assert_eq!(error, Some(SealError::Malformed), "{said} of {len}");
        }
        assert_eq!(opened(b""), Some(SealError::Malformed));
        assert_eq!(opened(&[VERSION]), Some(SealError::Malformed));
        assert_eq!(opened(&[VERSION + 1, 1, b'x']), Some(SealError::Malformed));
    }

    #[test]
    fn what_does_not_fit_is_left_out_to_the_byte() {
        let whole = Referral {
            click_id: Some("CLICK".parse().unwrap()),
            extra: vec![("utm".into(), "mail".into()), ("sub_id".into(), "7".into())],
            ..referral()
        };
        // With less and less of it, in the order in which it goes.
        let mut steps = vec![whole.clone()];
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
            let [more, less] = [&two[0], &two[1]].map(|one| encoded(one, "partners", usize::MAX));
            assert_eq!(encoded(&whole, "partners", more.len()), more);
            assert_eq!(encoded(&whole, "partners", more.len() - 1), less);
        }
        let least = encoded(&steps[4], "partners", usize::MAX);
        assert_eq!(
            encoded(&whole, "partners", 0),
            least,
            "key and click ID stay"
        );
    }

    #[test]
    fn a_visitors_message_comes_back_and_what_is_carried_fits_to_the_byte() {
        let visitor = VisitorId::from_bytes([9; 16]);
        let (whole, rule) = (referral(), KeyRule::ascii());
        let less = Referral {
            landing_path: None,
            ..whole.clone()
        };
        let fits = 1 + 16 + encoded(&whole, "", usize::MAX).len();
        for (max_len, referral) in [(fits, &whole), (fits - 1, &less)] {
            for click_is_due in [false, true] {
                for carried in [None, Some(false), Some(true)] {
                    let mut envelope = Envelope::new();
                    let holding = carried.map(|fills_only| (&whole, fills_only));
                    encode_visitor(visitor, click_is_due, holding, max_len, &mut envelope);
                    let pass = Pass {
                        visitor: Some(visitor),
                        click_is_due,
                        carried: carried.map(|_| referral.clone()),
                        fills_only: carried == Some(true),
                    };
                    assert_eq!(decode_pass(envelope.as_bytes(), &rule), Some(pass));
                }
            }
        }
        let bare = encoded(&whole, "", usize::MAX);
        let pass = Pass {
            visitor: None,
            click_is_due: false,
            carried: Some(whole),
            fills_only: false,
        };
        assert_eq!(decode_pass(&bare, &rule), Some(pass));
    }

    #[test]
    fn a_visitors_message_is_read_strictly() {
        let carried = encoded(&referral(), "", usize::MAX);
        for flags in 0..=255 {
            for (behind, taken) in [
                (&[][..], &[128, 129][..]),
                (&carried, &[130, 131, 134, 135]),
                (b"x", &[]),
            ] {
                let message = [&[flags][..], &[9; 16], behind].concat();
                let pass = decode_pass(&message, &KeyRule::ascii());
                assert_eq!(
                    pass.is_some(),
                    taken.contains(&flags),
                    "{flags}: {behind:?}"
                );
            }
        }
    }
}
