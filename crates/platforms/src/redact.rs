//! Makes text from a platform fit to be shown: without what was sent, printable, and short.

use std::sync::Arc;

use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};
use percent_encoding::utf8_percent_encode;

use crate::endpoint::UNRESERVED;

/// The longest text that is kept, in characters.
const MAX_CHARS: usize = 500;
/// How much of the text is looked through for addresses.
const WINDOW_CHARS: usize = 4 * MAX_CHARS;
/// How much of a text is looked at, in bytes: what is shown is at its start.
const MAX_LEN: usize = 8 * 1024;
/// In the place of what must not be shown.
const HIDDEN: &str = "[hidden]";

/// In the extensions of a request: texts of it that must not be in an error, as the API key of its
/// headers must not.
#[derive(Clone)]
pub(crate) struct HiddenTexts(pub(crate) Arc<[String]>);

/// Returns the text without `secrets` (in any ASCII case, percent-encoded and form-encoded too),
/// without e-mail addresses and control characters, and cut. Takes time linear in the text and the
/// secrets.
pub(crate) fn clean(text: &str, secrets: &[String]) -> String {
    // First what can't be seen: a secret may be written with a tab where it has a blank.
    let text: String = text.chars().take(2 * MAX_LEN).map(printable).collect();
    let as_shown = |secret: &String| secret.chars().map(printable).collect();
    let secrets: Vec<String> = secrets
        .iter()
        .map(as_shown)
        .chain(secrets.to_vec())
        .collect();
    let text = without_secrets(&text, &secrets, MAX_LEN);
    let mut chars = text.chars();
    let mut window: String = chars.by_ref().take(WINDOW_CHARS).collect();
    if chars.next().is_some() {
        // The last word may be a part of an address.
        let end = window.rfind(char::is_whitespace).unwrap_or(0);
        window.truncate(end);
    }
    without_addresses(&window).chars().take(MAX_CHARS).collect()
}

/// Returns at most so many bytes of the text, with a mark in the place of each secret.
pub(crate) fn without_secrets(text: &str, secrets: &[String], max_len: usize) -> String {
    // One character is no secret: it is in every text.
    let secrets = secrets.iter().filter(|secret| secret.len() > 1);
    let patterns = secrets.flat_map(|secret| {
        let encoded = utf8_percent_encode(secret, UNRESERVED).to_string();
        let in_form = encoded.replace("%20", "+");
        [secret.clone(), encoded, in_form]
    });
    let mut patterns: Vec<String> = patterns.collect();
    patterns.sort_unstable();
    patterns.dedup();
    let searcher = AhoCorasick::builder()
        .ascii_case_insensitive(true)
        .match_kind(MatchKind::LeftmostLongest)
        .kind(Some(AhoCorasickKind::NoncontiguousNFA))
        .build(&patterns);
    // Patterns beyond the searcher's capacity: show nothing at all.
    let Ok(searcher) = searcher else {
        return HIDDEN.to_owned();
    };
    let mut end = text.len().min(max_len);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let mut shown = String::with_capacity(end);
    let mut last = 0;
    for found in searcher.find_iter(&text[..end]) {
        shown.push_str(&text[last..found.start()]);
        shown.push_str(HIDDEN);
        last = found.end();
    }
    if end < text.len() {
        // What is cut may have been the rest of a secret that began before.
        let longest = patterns.iter().map(String::len).max().unwrap_or(0);
        end = end.saturating_sub(longest).max(last);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
    }
    shown.push_str(&text[last..end]);
    shown
}

/// Returns a blank for what can't be seen or changes how the rest is seen.
fn printable(c: char) -> char {
    let is_invisible = c.is_control()
        || matches!(c, '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2060}'..='\u{206F}')
        || matches!(c, '\u{FEFF}' | '\u{FFF9}'..='\u{FFFB}' | '\u{E0000}'..='\u{E0FFF}');
    if is_invisible { ' ' } else { c }
}

/// A platform may name a person whom the report didn't: what looks like an e-mail address goes.
fn without_addresses(text: &str) -> String {
    let is_part = |c: char| c.is_alphanumeric() || "@.+-_%'".contains(c);
    let mut cleaned = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find(is_part) {
        let (before, word) = rest.split_at(start);
        let end = word.find(|c| !is_part(c)).unwrap_or(word.len());
        let (word, after) = word.split_at(end);
        cleaned.push_str(before);
        let is_address = word.contains('@') || word.contains("%40");
        cleaned.push_str(if is_address { HIDDEN } else { word });
        rest = after;
    }
    cleaned.push_str(rest);
    cleaned
}

#[cfg(test)]
mod tests {
    use super::clean;

    fn cleaned(text: &str, secrets: &[&str]) -> String {
        let secrets: Vec<_> = secrets.iter().map(|&secret| secret.to_owned()).collect();
        clean(text, &secrets)
    }

    #[test]
    fn an_address_goes_that_was_never_sent_however_it_is_written() {
        for text in [
            "jane@shop.example",
            "jane%40shop.example",
            "?e=jane%2Bx%40shop.example",
        ] {
            assert!(!cleaned(text, &[]).contains("jane"), "{text}");
        }
    }

    #[test]
    fn what_was_sent_goes_with_other_blanks_in_it_too() {
        for text in ["CUST\t1", "cust\u{200b}1", "CUST 1"] {
            assert_eq!(cleaned(text, &["CUST 1"]), "[hidden]", "{text:?}");
        }
        assert_eq!(
            cleaned("a b, a\tb, a%09b", &["a\tb"]),
            "[hidden], [hidden], [hidden]"
        );
    }

    #[test]
    fn what_was_sent_goes_in_any_case_and_encoding() {
        assert_eq!(
            cleaned(
                "key PARTNER_1, a%20b, a+b and clk",
                &["partner_1", "a b", "c"]
            ),
            "key [hidden], [hidden], [hidden] and clk"
        );
        assert_eq!(cleaned("ask bob@shop.example", &[]), "ask [hidden]");
    }

    #[test]
    fn the_rest_is_short_and_printable() {
        assert_eq!(cleaned("a\u{1b}[31mb\u{202e}c\n", &[]), "a [31mb c ");
        assert_eq!(cleaned(&"ä ".repeat(9000), &[]).chars().count(), 500);
        let cut = format!("{} ada.lovelace@shop.example", "x".repeat(1990));
        assert!(!cleaned(&cut, &[]).contains("ada"));
    }
}
