//! The one wire format, for cookies and carry tokens: how a referral becomes bytes, how bytes are
//! signed, and the way back. It knows nothing of cookies, headers or clocks.
//!
//! ```text
//! sealed   = base64url(envelope tag)                   unpadded; the tag is the last 32 bytes
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

use base64_simd::{AsOut, URL_SAFE_NO_PAD};
use constant_time_eq::constant_time_eq;
use hmac::{Hmac, KeyInit};
use sha2::Sha256;
use smallvec::SmallVec;
use smol_str::SmolStr;

use crate::keyring::{Keyring, SigningKey};
use crate::mac::{self, BLOCK_LEN, Block, Mac, Tag};
use crate::program::{MAX_WINDOW_SECONDS, is_param_name, is_program_name};
use crate::referral::{
    Click, ClickId, KeyRule, MAX_UNIX_MILLIS, Referral, ReferralKey, Source, UnixMillis,
    is_extra_value, is_landing_path,
};
use crate::visitor::VisitorId;

const VERSION: u8 = 1;
const TAG_LEN: usize = size_of::<Tag>();
/// The longest envelope that is ever read, in bytes. None that is written is longer: see the assertion
/// below.
const MAX_ENVELOPE_LEN: usize = 768;
/// The longest sealed text that is ever written or read, in characters.
pub(crate) const MAX_SEALED_LEN: usize = encoded_len(MAX_ENVELOPE_LEN + TAG_LEN);

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
    mac: Mac,
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
        encoded_len(self.signing.head.len() + len + TAG_LEN)
    }

    /// Seals a message, which `write` puts into the envelope.
    pub(crate) fn seal<'e>(
        &self,
        write: impl FnOnce(&mut Envelope),
        envelope: &'e mut Envelope,
    ) -> Sealed<'e> {
        envelope.begin(&self.signing.head);
        write(envelope);
        let tag = self.signing.mac.tag(envelope.padded());
        envelope.sealed_with(&tag)
    }

    /// Verifies `sealed` and gives its message, decoded into `envelope`.
    pub(crate) fn open<'e>(
        &self,
        sealed: &[u8],
        envelope: &'e mut Envelope,
    ) -> Result<&'e [u8], SealError> {
        let (sub_key, tag) = self.decode(sealed, envelope)?;
        if constant_time_eq(&sub_key.mac.tag(envelope.padded()), &tag) {
            Ok(envelope.message())
        } else {
            Err(SealError::BadSignature)
        }
    }

    /// Gives the message of a sealed text that was verified before.
    pub(crate) fn reread<'e>(&self, sealed: &[u8], envelope: &'e mut Envelope) -> Option<&'e [u8]> {
        self.decode(sealed, envelope).ok()?;
        Some(envelope.message())
    }

    /// Decodes a sealed text into `envelope`, and gives the one key that it names, and the tag.
    fn decode(&self, sealed: &[u8], envelope: &mut Envelope) -> Result<(&SubKey, Tag), SealError> {
        // Nearly always it is the key that signs.
        let decoded = envelope.decode(sealed, self.signing.head.len());
        let tag = decoded.ok_or(SealError::Malformed)?;
        let bytes = envelope.as_bytes();
        match bytes {
            [VERSION, id_len, rest @ ..]
                if (1..=SigningKey::MAX_ID_LEN).contains(&usize::from(*id_len))
                    && rest.len() >= usize::from(*id_len) => {}
            _ => return Err(SealError::Malformed),
        }
        if bytes.starts_with(&self.signing.head) {
            return Ok((&self.signing, tag));
        }
        let old = self.old.iter().find(|key| bytes.starts_with(&key.head));
        let old = old.ok_or(SealError::UnknownKey)?;
        envelope.set_head_len(old.head.len());
        Ok((old, tag))
    }
}

/// Where a message is written to.
pub(crate) trait Put {
    /// Room behind what was put before, to be written to. It is as long as asked for.
    fn room(&mut self, len: usize) -> &mut [u8];

    fn put(&mut self, bytes: &[u8]) {
        self.room(bytes.len()).copy_from_slice(bytes);
    }
}

impl Put for Vec<u8> {
    fn room(&mut self, len: usize) -> &mut [u8] {
        let start = self.len();
        self.resize(start + len, 0);
        &mut self[start..]
    }
}

/// Version, key ID and message, nearly always on the stack.
///
/// The message begins where a block of SHA-256 does, so that it is hashed where it lies; what goes before
/// it is at the end of a block of its own.
pub(crate) struct Envelope {
    blocks: SmallVec<[Block; 3]>,
    start: usize,
    end: usize,
}

impl Envelope {
    pub(crate) fn new() -> Self {
        Self {
            blocks: SmallVec::from_buf([[0; BLOCK_LEN]; 3]),
            start: BLOCK_LEN,
            end: BLOCK_LEN,
        }
    }

    fn as_bytes(&self) -> &[u8] {
        &self.blocks.as_flattened()[self.start..self.end]
    }

    fn message(&self) -> &[u8] {
        &self.blocks.as_flattened()[BLOCK_LEN..self.end]
    }

    /// The message's blocks, padded.
    fn padded(&mut self) -> &[Block] {
        mac::pad(&mut self.blocks[1..], self.end - BLOCK_LEN)
    }

    /// Puts the head in front of what is to be a message.
    fn begin(&mut self, head: &[u8]) {
        self.start = BLOCK_LEN - head.len();
        self.end = BLOCK_LEN;
        self.blocks[0][self.start..].copy_from_slice(head);
    }

    /// Takes in what `text` stands for, a head of that length, a message and a tag, and gives the tag.
    /// `None` if it isn't the one base64url of anything, or of more than an envelope ever has.
    #[inline]
    fn decode(&mut self, text: &[u8], head_len: usize) -> Option<Tag> {
        let len = (text.len() * 3 / 4).checked_sub(TAG_LEN)?;
        if len > MAX_ENVELOPE_LEN {
            return None;
        }
        self.start = BLOCK_LEN - head_len;
        self.end = self.start + len;
        self.make_room();
        let place = &mut self.blocks.as_flattened_mut()[self.start..self.end + TAG_LEN];
        let decoded = URL_SAFE_NO_PAD.decode(text, place.as_out()).ok()?;
        decoded.last_chunk().copied()
    }

    /// The head turned out to be of another length.
    #[cold]
    fn set_head_len(&mut self, head_len: usize) {
        let decoded = self.start..self.end;
        self.start = BLOCK_LEN - head_len;
        self.end = self.start + decoded.len();
        self.make_room();
        let bytes = self.blocks.as_flattened_mut();
        bytes.copy_within(decoded, self.start);
    }

    /// For what is there, and for a tag or the padding, which is shorter.
    #[inline]
    fn make_room(&mut self) {
        let needed = (self.end + TAG_LEN).div_ceil(BLOCK_LEN);
        if needed > self.blocks.len() {
            self.blocks.resize(needed, [0; BLOCK_LEN]);
        }
    }

    /// Puts the tag behind the message, where its padding was.
    fn sealed_with(&mut self, tag: &Tag) -> Sealed<'_> {
        let end = self.end + TAG_LEN;
        let bytes = self.blocks.as_flattened_mut();
        bytes[self.end..end].copy_from_slice(tag);
        Sealed(&bytes[self.start..end])
    }

    pub(crate) fn len(&self) -> usize {
        self.end - self.start
    }

    pub(crate) fn truncate(&mut self, len: usize) {
        self.end = self.end.min(self.start + len);
    }
}

/// Envelope and tag, not yet in base64url.
pub(crate) struct Sealed<'e>(&'e [u8]);

impl Sealed<'_> {
    /// The length of the sealed text, in characters.
    pub(crate) fn text_len(&self) -> usize {
        encoded_len(self.0.len())
    }

    /// Appends the sealed text to `out`; as bytes, because base64url needs no check that it is UTF-8.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        URL_SAFE_NO_PAD.encode_append(self.0, out);
    }
}

impl Put for Envelope {
    #[inline]
    fn room(&mut self, len: usize) -> &mut [u8] {
        let start = self.end;
        self.end += len;
        self.make_room();
        &mut self.blocks.as_flattened_mut()[start..self.end]
    }
}

/// Writes pieces of bytes one behind the other.
struct Writer<'w>(&'w mut [u8]);

impl Writer<'_> {
    /// What there is no room for isn't written.
    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        if let Some((place, rest)) = std::mem::take(&mut self.0).split_at_mut_checked(bytes.len()) {
            place.copy_from_slice(bytes);
            self.0 = rest;
        }
    }

    /// Every field is at most 255 bytes by its own rule.
    #[inline]
    fn put_field(&mut self, text: &str) {
        self.put(&[text.len() as u8]);
        // Most optional fields are empty, and copying nothing takes as long as copying something.
        if !text.is_empty() {
            self.put(text.as_bytes());
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
        let mut derivation = <Hmac<Sha256> as KeyInit>::new_from_slice(key.secret())
            .expect("HMAC takes keys of any length");
        for item in [
            b"tower-referral",
            &[VERSION][..],
            purpose.as_bytes(),
            audience.as_bytes(),
            id,
        ] {
            // Purposes and audiences are at most 64 and 253 characters by their own rules.
            hmac::Mac::update(&mut derivation, &(item.len() as u16).to_be_bytes());
            hmac::Mac::update(&mut derivation, item);
        }
        let mut head = vec![VERSION, id.len() as u8];
        head.extend_from_slice(id);
        Self {
            head,
            mac: Mac::new(&hmac::Mac::finalize(derivation).into_bytes().into()),
        }
    }
}

/// The length of the base64url of so many bytes.
const fn encoded_len(len: usize) -> usize {
    (len * 4).div_ceil(3)
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
            len -= parameter.take().map_or(0, str::len);
            break;
        }
    }

    let source = match (referral.source, referral.click) {
        (Source::Landing, Click::Due(_)) => 4,
        (Source::Landing, _) => 1,
        (Source::Handler, _) => 2,
        (Source::Script, _) => 3,
    };
    let mut out = Writer(out.room(len));
    out.put(&referral.captured_at.to_be_bytes());
    out.put(&referral.window.to_be_bytes());
    out.put(&[source, touch.len() as u8]);
    out.put(touch);
    out.put_field(program);
    out.put_field(referral.key.as_str());
    out.put_field(click_id.unwrap_or_default());
    out.put_field(parameter.unwrap_or_default());
    out.put_field(path.unwrap_or_default());
    out.put(&[extra.len() as u8]);
    for (name, value) in extra {
        out.put_field(name);
        out.put_field(value);
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
    let mut reader = Reader(message);
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
    let carried = match (carries, reader.0) {
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
    // A name of a program is ASCII.
    let program = std::str::from_utf8(fields.program).ok()?;
    Some(fields.to_referral(program.into()))
}

/// The fields of a message, each by its rule, where they stand in it. Texts that are ASCII by their rule
/// are left as bytes, because most of them nobody asks for.
pub(crate) struct Fields<'m> {
    pub(crate) captured_at: UnixMillis,
    pub(crate) window: u32,
    source: Source,
    click: Click,
    program: &'m [u8],
    key: &'m str,
    click_id: &'m [u8],
    parameter: &'m [u8],
    landing_path: &'m [u8],
    /// As many pairs of name and value.
    extra_count: u8,
    extra: Reader<'m>,
}

impl<'m> Fields<'m> {
    /// Always inlined, with all that calls it on a request's way: it is large, and to move what was just
    /// written takes a processor as long as reading it did.
    #[inline(always)]
    pub(crate) fn read(message: &'m [u8], rule: &KeyRule, names_program: bool) -> Option<Self> {
        let mut reader = Reader(message);
        let captured_at = i64::from_be_bytes(reader.array()?);
        let window = u32::from_be_bytes(reader.array()?);
        let [source, touch_len] = reader.array()?;
        let click = match (source, touch_len) {
            (1..=3, 0) => Click::None,
            (4, 8) => Click::Due(reader.array()?),
            (1..=3, 8) => Click::Started(reader.array()?),
            _ => return None,
        };
        let program = reader.bytes()?;
        let key = reader.text()?;
        let click_id = reader.bytes()?;
        let parameter = reader.bytes()?;
        let landing_path = reader.bytes()?;
        let [extra_count] = reader.array()?;
        let extra = reader.clone();
        for _ in 0..extra_count {
            let (name, value) = (reader.bytes()?, reader.text()?);
            if !is_param_name(name) || !is_extra_value(value) {
                return None;
            }
        }
        let is_program = if names_program {
            is_program_name(program)
        } else {
            program.is_empty()
        };
        let is_valid = reader.0.is_empty()
            && (0..=MAX_UNIX_MILLIS).contains(&captured_at)
            && (1..=MAX_WINDOW_SECONDS).contains(&window)
            && is_program
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
        fn text(bytes: &[u8]) -> Option<&str> {
            // None of them is anything but UTF-8, by its rule.
            let text = std::str::from_utf8(bytes).unwrap_or_default();
            (!text.is_empty()).then_some(text)
        }
        let mut extra = self.extra.clone();
        Referral {
            key: self.key(),
            click_id: text(self.click_id).map(ClickId::valid),
            click: self.click,
            program,
            source: self.source,
            captured_at: self.captured_at,
            window: self.window,
            parameter: text(self.parameter).map(SmolStr::new),
            landing_path: text(self.landing_path).map(SmolStr::new),
            extra: (0..self.extra_count)
                .filter_map(|_| Some((extra.text()?.into(), extra.text()?.into())))
                .collect(),
        }
    }
}

/// Reads fields off the front.
#[derive(Clone)]
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    #[inline]
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (array, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*array)
    }

    #[inline]
    fn bytes(&mut self) -> Option<&'a [u8]> {
        let (len, rest) = self.0.split_first()?;
        let (bytes, rest) = rest.split_at_checked(usize::from(*len))?;
        self.0 = rest;
        Some(bytes)
    }

    #[inline]
    fn text(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.bytes()?).ok()
    }
}

// The longest key and click ID, and the longest key ID in front, fit an envelope with room for
// the rest; what doesn't fit is left out by `encode`.
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
            seal()
                .seal(|out| out.put(message), &mut envelope)
                .write(&mut sealed);
            assert_eq!(sealed.len(), seal().sealed_len(message.len()));
            let mut opened = Envelope::new();
            assert_eq!(seal().open(&sealed, &mut opened), Ok(message));
            for at in 0..sealed.len() {
                for byte in 0..=255 {
                    let mut forged = sealed.clone();
                    if forged[at] != byte {
                        forged[at] = byte;
                        assert!(seal().open(&forged, &mut opened).is_err(), "{at}: {byte}");
                    }
                }
                assert!(seal().open(&sealed[..at], &mut opened).is_err());
            }
        }
    }

    #[test]
    fn what_an_old_key_sealed_opens_however_long_its_id_and_the_message_are() {
        let longest = SigningKey::MAX_ID_LEN;
        let key = |len, secret| SigningKey::new("k".repeat(len), [secret, 1].repeat(16)).unwrap();
        let purpose = Purpose::Cookie { name: "c" };
        let old = |len| Seal::new(&Keyring::new(key(len, 2)), purpose);
        for (signing_len, old_len) in [(1, longest), (longest, 1), (7, 8)] {
            let keyring = Keyring::new(key(signing_len, 3)).verify_with(key(old_len, 2));
            let seal = Seal::new(&keyring.unwrap(), purpose);
            for len in [
                0,
                1,
                54,
                55,
                56,
                64,
                118,
                119,
                120,
                300,
                MAX_ENVELOPE_LEN - 18,
            ] {
                let message: Vec<u8> = (0..len).map(|at| at as u8).collect();
                let (mut envelope, mut sealed) = (Envelope::new(), Vec::new());
                old(old_len)
                    .seal(|out| out.put(&message), &mut envelope)
                    .write(&mut sealed);
                let mut opened = Envelope::new();
                assert_eq!(seal.open(&sealed, &mut opened), Ok(&message[..]), "{len}");
                assert_eq!(seal.reread(&sealed, &mut opened), Some(&message[..]));
            }
        }
    }

    #[test]
    fn text_longer_than_any_envelope_does_not_open() {
        let text = [b'A'; MAX_SEALED_LEN + 1];
        let mut envelope = Envelope::new();
        let opened = seal().open(&text, &mut envelope);
        assert_eq!(opened, Err(SealError::Malformed));
    }

    #[test]
    fn a_key_id_that_nobody_has_is_unknown_and_one_that_cannot_be_is_malformed() {
        let opened = |envelope: &[u8]| {
            let text = URL_SAFE_NO_PAD.encode_to_string([envelope, &[0; TAG_LEN]].concat());
            seal().open(text.as_bytes(), &mut Envelope::new()).err()
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
                    assert_eq!(decode_pass(envelope.message(), &rule), Some(pass));
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
