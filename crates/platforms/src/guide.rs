//! The guide: one chapter for each thing that takes more than a paragraph. Nothing in here is code
//! of the crate; the chapters are `docs/guide/*.md`, and their examples are tested.
//!
//! | question | chapter |
//! |---|---|
//! | How are sign-ups, sales and refunds reported, and what does each platform take? | [`reporting`] |
//! | What does a platform's answer mean? | [`answers`] |
//! | A partner has a coupon in the place of a link. | [`coupons`] |
//! | The key comes from an app. | [`mobile`] |
//! | The platform reads the payments by itself. | [`billing_integrations`], [`transaction_attribution`] |
//! | Stripe, Paddle or Polar takes the payments. | `stripe`, `paddle`, `polar`, behind the features of these names |
//! | Another payment provider does. | [`other_payments`] |

#[doc = include_str!("../docs/guide/reporting.md")]
pub mod reporting {}

#[doc = include_str!("../docs/guide/answers.md")]
pub mod answers {}

#[doc = include_str!("../docs/guide/coupons.md")]
pub mod coupons {}

#[doc = include_str!("../docs/guide/mobile.md")]
pub mod mobile {}

#[doc = include_str!("../docs/guide/billing_integrations.md")]
pub mod billing_integrations {}

#[doc = include_str!("../docs/guide/transaction_attribution.md")]
pub mod transaction_attribution {}

#[cfg(feature = "stripe")]
#[doc = include_str!("../docs/guide/stripe.md")]
pub mod stripe {}

#[cfg(feature = "paddle")]
#[doc = include_str!("../docs/guide/paddle.md")]
pub mod paddle {}

#[cfg(feature = "polar")]
#[doc = include_str!("../docs/guide/polar.md")]
pub mod polar {}

#[doc = include_str!("../docs/guide/other_payments.md")]
pub mod other_payments {}
