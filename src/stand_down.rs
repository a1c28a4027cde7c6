//! Paths where a landing replaces nothing: whether a request's path is at or below one of them. Pure.

use percent_encoding::percent_decode_str;

/// A path that is compared with others by whole segments, in lower case and resolved.
pub(crate) struct PathPrefix(Vec<String>);

impl PathPrefix {
    pub(crate) fn new(path: &str) -> Self {
        let path = decoded(path);
        let segments = resolved(&segments(&path)).into_iter();
        Self(segments.map(str::to_owned).collect())
    }

    fn begins(&self, segments: &[&str]) -> bool {
        let start = segments.get(..self.0.len());
        start.is_some_and(|start| start.iter().eq(&self.0))
    }
}

/// Returns `true` if `path` is at or below one of the prefixes. It matches at least as widely as any router:
/// percent-decoded once, whatever else is broken in it, split at `/` and `\`, without empty segments, each
/// cut at `;`, without dots and blanks at its end, in any case, with `..` resolved and not.
pub(crate) fn is_below(path: &str, prefixes: &[PathPrefix]) -> bool {
    let path = decoded(path);
    let all = segments(&path);
    let resolved = resolved(&all);
    let unresolved: Vec<_> = all.into_iter().filter(|it| *it != PARENT).collect();
    let mut prefixes = prefixes.iter();
    prefixes.any(|prefix| prefix.begins(&unresolved) || prefix.begins(&resolved))
}

/// The segment that leads back.
const PARENT: &str = "..";

/// Percent-decodes a path and puts it in lower case, all at once: a hostile path has many segments.
fn decoded(path: &str) -> String {
    percent_decode_str(path).decode_utf8_lossy().to_lowercase()
}

fn segments(decoded: &str) -> Vec<&str> {
    decoded
        .split(['/', '\\'])
        .map(|segment| segment.split(';').next().unwrap_or(segment).trim())
        .map(|segment| match segment {
            PARENT => segment,
            _ => segment.trim_end_matches(['.', ' ']),
        })
        .filter(|segment| !segment.is_empty())
        .collect()
}

/// Goes back where a segment leads back.
fn resolved<'p>(segments: &[&'p str]) -> Vec<&'p str> {
    let mut resolved = Vec::new();
    for segment in segments {
        if *segment == PARENT {
            resolved.pop();
        } else {
            resolved.push(*segment);
        }
    }
    resolved
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_below(path: &str, prefix: &str) -> bool {
        super::is_below(path, &[PathPrefix::new(prefix)])
    }

    #[test]
    fn stand_down_paths_match_as_widely_as_any_router() {
        for path in [
            "/checkout",
            "/checkout/",
            "/checkout/pay",
            "//checkout",
            "/%63heckout",
            "/Checkout",
            "/CHECKOUT/pay",
            "/checkout;",
            "/checkout;jsessionid=1/pay",
            "/checkout%2Fpay",
            "/checkout%5Cpay",
            "/checkout.",
            "/checkout%20",
            "/./checkout",
            "/checkout%3Bx",
            "/%63heckout/%zz",
            "/%63heckout/50%",
            "/checkout%2f%ff",
            "/x/../checkout",
            "/x/..%2Fcheckout/pay",
            "/checkout/../x",
            "/../checkout",
        ] {
            assert!(is_below(path, "/checkout"), "{path}");
        }
        for path in [
            "/",
            "/checkouts",
            "/shop/checkout",
            "/check",
            "/x/.../checkout",
        ] {
            assert!(!is_below(path, "/checkout"), "{path}");
        }
        assert!(is_below("/shop/checkout", "/old/../shop/checkout"));
    }
}
