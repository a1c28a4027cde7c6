//! Who creates no click: crawlers, link previews, monitors and HTTP tools. Every list of them is
//! wrong about some real phones, so this one is short, decides over clicks alone and can be
//! replaced.

use std::sync::LazyLock;

use memchr::memmem::Finder;

/// Returns `true` if this is the `User-Agent` of a crawler, a link preview, a monitor or an HTTP tool.
///
/// It is if it is empty; has a web address in it (`+http`), as well-behaved robots do; has a word that ends
/// in `bot`, `crawler` or `spider`, phones by CUBOT apart; or names one of some dozens of known products.
///
/// ```
/// use tower_referral::click::is_crawler;
///
/// assert!(is_crawler("Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"));
/// assert!(is_crawler("curl/8.5.0"));
/// assert!(!is_crawler("Mozilla/5.0 (Linux; Android 10; CUBOT NOTE 20) AppleWebKit/537.36"));
/// ```
#[must_use]
pub fn is_crawler(user_agent: impl AsRef<[u8]>) -> bool {
    let user_agent = user_agent.as_ref().to_ascii_lowercase();
    let mut words = user_agent
        .split(|byte| !byte.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty())
        .peekable();
    words.peek().is_none()
        || words.any(is_robot)
        || PRODUCTS
            .iter()
            .any(|product| user_agent.starts_with(product.as_bytes()))
        || ANYWHERE.iter().any(|name| name.find(&user_agent).is_some())
}

fn is_robot(word: &[u8]) -> bool {
    [&b"bot"[..], b"crawler", b"spider"]
        .iter()
        .any(|end| word.ends_with(end))
        && word != b"cubot"
}

/// Products that a `User-Agent` begins with. A browser's begins with `Mozilla/5.0`.
const PRODUCTS: [&str; 32] = [
    "aiohttp/",
    "apache-httpclient/",
    "axios/",
    "blackbox exporter/",
    "curl",
    "elb-healthchecker/",
    "facebookcatalog/",
    "facebookexternalhit/",
    "go-http-client/",
    "got (",
    "guzzlehttp/",
    "httpie/",
    "insomnia/",
    "java/",
    "k6/",
    "kube-probe/",
    "libwww-perl/",
    "lwp::",
    "meta-external",
    "node",
    "okhttp/",
    "php/",
    "postmanruntime/",
    "prometheus/",
    "python-httpx/",
    "python-requests/",
    "python-urllib/",
    "reqwest/",
    "ruby",
    "undici",
    "wget/",
    "whatsapp/",
];

/// What no browser has anywhere in its `User-Agent`; prepared once, because that takes longer than to look.
static ANYWHERE: LazyLock<[Finder<'static>; 21]> = LazyLock::new(|| {
    [
        "+http",
        "adsbot-google",
        "bingpreview",
        "chrome-lighthouse",
        "embedly",
        "facebookexternalhit",
        "google-inspectiontool",
        "google-read-aloud",
        "googleother",
        "ia_archiver",
        "iframely",
        "mediapartners-google",
        "newrelicpinger",
        "pingdom",
        "site24x7",
        "skypeuripreview",
        "slurp",
        "statuscake",
        "uptime-kuma",
        "uptimerobot",
        "vkshare",
    ]
    .map(Finder::new)
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn robots_are_known_and_odd_phones_are_not_taken_for_them() {
        for robot in [
            "",
            "-",
            "Mozilla/5.0 (compatible; bingbot/2.0; +http://www.bing.com/bingbot.htm)",
            "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; GPTBot/1.2; +https://openai.com/gptbot)",
            "Mozilla/5.0 (compatible; Baiduspider/2.0)",
            "Mozilla/5.0 (compatible; AhrefsBot/7.0)",
            "facebookexternalhit/1.1",
            "WhatsApp/2.23.20.0 A",
            "TelegramBot (like TwitterBot)",
            "Slackbot-LinkExpanding 1.0",
            "Mozilla/5.0 (compatible; Discordbot/2.0)",
            "Mozilla/5.0+(compatible; UptimeRobot/2.0; http://www.uptimerobot.com/)",
            "Pingdom.com_bot_version_1.4",
            "python-requests/2.32",
            "Go-http-client/2.0",
            "Wget/1.21",
            "curl",
            "ELB-HealthChecker/2.0",
            "kube-probe/1.29",
            "Mozilla/5.0 (compatible; NewRelicPinger/1.0)",
            "GuzzleHttp/7",
            "meta-externalagent/1.1 (+https://developers.facebook.com/docs/sharing/webmasters/crawler)",
            "Mozilla/5.0 (compatible; Yahoo! Slurp)",
            "ia_archiver",
        ] {
            assert!(is_crawler(robot), "{robot}");
        }
        for phone in [
            "Mozilla/5.0 (Linux; Android 9; CUBOT_X19 Build/PPR1) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0 Mobile Safari/537.36",
            "Mozilla/5.0 (Linux; Android 11; CUBOT) AppleWebKit/537.36 Chrome/120.0 Mobile Safari/537.36",
            "Mozilla/5.0 (Linux; Android 14; Pixel 8 Pro) AppleWebKit/537.36 Chrome/126.0 Mobile Safari/537.36",
            "Mozilla/5.0 (Linux; Android 13; Pixel Tablet) AppleWebKit/537.36 Chrome/126.0 Safari/537.36",
            "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 Mobile/15E148 Instagram 334.0",
            "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 Mobile/15E148 [FBAN/FBIOS;FBAV/468.0]",
            "Mozilla/5.0 (Linux; Android 14; SM-S911B; wv) AppleWebKit/537.36 Chrome/126.0 Mobile Safari/537.36 [Pinterest/Android]",
            "Mozilla/5.0 (Linux; Android 14; SM-G990B; wv) AppleWebKit/537.36 Chrome/126.0 Mobile Safari/537.36 musical_ly_2023 TikTok",
            "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:127.0) Gecko/20100101 Firefox/127.0",
            "Opera/9.80 (Android; Opera Mini/36.2; U; en) Presto/2.12 Version/12.16",
        ] {
            assert!(!is_crawler(phone), "{phone}");
        }
    }
}
