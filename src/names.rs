//! What programs and parameters may be called, and the bounds of their configuration.

/// 400 days: the longest life that browsers grant a cookie (RFC 6265bis section 5.5).
pub(crate) const MAX_WINDOW_SECONDS: u32 = 400 * 24 * 60 * 60;
/// The most parameters, fallback cookies or extra parameters of one program.
pub(crate) const MAX_NAMES: usize = 16;
/// The longest name of a program, a parameter or a fallback cookie, in characters.
const MAX_NAME_LEN: usize = 32;

/// Returns `true` if this can be a cookie's suffix.
pub(crate) fn is_program_name(name: &[u8]) -> bool {
    is_name(name, |byte| matches!(byte, b'-' | b'_'))
}

/// Returns `true` if this stands for itself in a query and is the name of a cookie to every browser.
pub(crate) fn is_param_name(name: &[u8]) -> bool {
    is_name(name, |byte| {
        matches!(
            byte,
            b'-' | b'_' | b'.' | b'~' | b'!' | b'*' | b'[' | b']' | b':' | b'@' | b'$'
        )
    })
}

fn is_name(name: &[u8], is_symbol: impl Fn(u8) -> bool) -> bool {
    (1..=MAX_NAME_LEN).contains(&name.len())
        && name
            .iter()
            .all(|b| b.is_ascii_alphanumeric() || is_symbol(*b))
}
