//! What a visitor does, and the requests of it.

use http::{HeaderValue, Method, Request};
use tower_referral::testing::Visitor;

use super::clock::{DAY, HOUR, MINUTE, SECOND};
use super::fleet::{Keep, PARAMS};
use super::random::Random;
use super::truth::{Referral, Rule, Unjudged};

/// How many partners there are.
const PARTNERS: usize = 200;

/// Somebody with a browser.
pub(crate) struct Person {
    pub(crate) number: u32,
    pub(crate) browser: Visitor,
    pub(crate) keep: Keep,
    pub(crate) home: usize,
    /// Of each program.
    pub(crate) referrals: [Referral; 2],
    pub(crate) unjudged: Option<Unjudged>,
    landings_left: u32,
    signs_up: bool,
    is_customer: bool,
    /// Who comes by the campaign comes with its key.
    campaign: Option<u16>,
}

/// What somebody does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    /// Lands with this key, of this program.
    Land {
        program: usize,
        key: u16,
    },
    View,
    SignUp,
}

impl Person {
    pub(crate) fn new(
        number: u32,
        browser: Visitor,
        home: usize,
        campaign: Option<u16>,
        random: &mut Random,
    ) -> Self {
        Self {
            number,
            browser,
            keep: if random.chance(0.5) {
                Keep::Cookie
            } else {
                Keep::Server
            },
            home,
            referrals: [Rule::First, Rule::Last].map(Referral::new),
            unjudged: None,
            landings_left: match random.below(10) {
                0..=5 => 1,
                6 | 7 => 2,
                8 => 3,
                _ => 4,
            },
            signs_up: false,
            is_customer: false,
            campaign,
        }
    }

    /// Returns what the person does first.
    pub(crate) fn first(&mut self, random: &mut Random) -> Act {
        self.land(random)
    }

    fn land(&mut self, random: &mut Random) -> Act {
        self.landings_left = self.landings_left.saturating_sub(1);
        // One sign-up in 50 landings, and one for each customer.
        self.signs_up |= !self.is_customer && random.chance(0.02);
        let key = self.campaign.take();
        Act::Land {
            program: random.below(2),
            key: key.unwrap_or_else(|| random.below(PARTNERS) as u16),
        }
    }

    /// Returns what comes after what the person did, and after how long; `None` if that was all.
    pub(crate) fn next(&mut self, done: Act, random: &mut Random) -> Option<(i64, Act)> {
        self.is_customer |= done == Act::SignUp;
        self.signs_up &= !self.is_customer;
        if self.signs_up && random.chance(0.5) {
            return Some((random.spread(10 * SECOND, 3 * DAY), Act::SignUp));
        }
        let chance = random.share();
        let has_landed = matches!(done, Act::Land { .. });
        if has_landed && chance < 0.5 {
            return Some((random.spread(SECOND, 2 * HOUR), Act::View));
        }
        if chance < 0.65 && (has_landed || random.chance(0.5)) {
            return Some((random.between(DAY / 4, 15 * DAY), Act::View));
        }
        if self.landings_left > 0 {
            let wait = random.spread(SECOND, 12 * DAY);
            return Some((wait, self.land(random)));
        }
        let wait = random.spread(MINUTE, DAY);
        self.signs_up.then_some((wait, Act::SignUp))
    }

    /// Creates the request, with the browser's cookies. `landing` is its number.
    pub(crate) fn request(&self, act: Act, landing: u32) -> Request<()> {
        match act {
            Act::Land { program, key } => {
                let parameter = PARAMS[program];
                self.browser
                    .visits(&format!("/p/{landing}?{parameter}=K{key}"))
            }
            Act::View => self.inside(Method::GET, "/about"),
            Act::SignUp => self.inside(Method::POST, "/signup"),
        }
    }

    fn inside(&self, method: Method, page: &str) -> Request<()> {
        let mut request = self.browser.visits::<()>(page);
        *request.method_mut() = method;
        let site = HeaderValue::from_static("same-origin");
        request.headers_mut().insert("sec-fetch-site", site);
        request
    }
}
