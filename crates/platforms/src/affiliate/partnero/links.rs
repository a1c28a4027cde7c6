//! Links that Partnero names: one that would run a script in the visitor's browser is not passed on.

use serde_json::Value;

/// Returns `true` if it can be shown as a link: nothing but a web page is.
pub(super) fn is_web_link(link: &str) -> bool {
    let uri = link.parse::<http::Uri>();
    uri.is_ok_and(|uri| matches!(uri.scheme_str(), Some("https" | "http")) && uri.host().is_some())
}

/// Returns the JSON with `null` in the place of every text that a browser would run as a script or
/// show as a page of its own, and of every `referral_link` that is no web page.
pub(super) fn without_script_links(mut json: Value) -> Value {
    strip(&mut json, false);
    json
}

fn strip(json: &mut Value, is_link: bool) {
    match json {
        Value::String(text) if is_script(text) || is_link && !is_web_link(text) => {
            *json = Value::Null;
        }
        Value::Array(list) => list.iter_mut().for_each(|value| strip(value, is_link)),
        Value::Object(map) => {
            for (name, value) in map {
                let in_links = is_link && matches!(name.as_str(), "url" | "link");
                let is_link = matches!(name.as_str(), "referral_link" | "referral_links");
                strip(value, is_link || in_links);
            }
        }
        _ => {}
    }
}

/// Reads the scheme as browsers do: without leading blanks and control characters, and without tabs
/// and line ends within.
fn is_script(text: &str) -> bool {
    let start = text.trim_start_matches(|c: char| c <= ' ');
    let scheme = start.chars().filter(|c| !matches!(c, '\t' | '\n' | '\r'));
    let scheme: String = scheme.take_while(|c| *c != ':').take(16).collect();
    let has_scheme = start.contains(':');
    let runs = ["javascript", "vbscript", "data"];
    has_scheme && runs.iter().any(|name| scheme.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::without_script_links;

    #[test]
    fn scripts_go_at_any_depth_and_other_texts_stay() {
        let said = json!({
            "referral_link": "ftp://shop.example/",
            "referral_links": [{"url": "https://shop.example/?ref=a", "name": "x"}, "//b"],
            "social": {"w": "whatsapp://send", "x": " JaVa\tScript:alert(1)", "d": "data:text/html,x"},
            "name": "Ada: javascript",
        });
        assert_eq!(
            without_script_links(said),
            json!({
                "referral_link": null,
                "referral_links": [{"url": "https://shop.example/?ref=a", "name": "x"}, null],
                "social": {"w": "whatsapp://send", "x": null, "d": null},
                "name": "Ada: javascript",
            })
        );
    }
}
