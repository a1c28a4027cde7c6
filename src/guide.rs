//! The guide: one chapter for each thing that takes more than a paragraph. Nothing in here is code
//! of the crate; the chapters are `docs/guide/*.md`, and their examples are tested.
//!
//! | question | chapter |
//! |---|---|
//! | Where does the layer go, and what goes wrong? | [`layer_order`] |
//! | Visitors land on one host and pay on another. | [`subdomains`] |
//! | Consent, Global Privacy Control, erasure: what is there? | [`privacy`] |
//! | What about caches, CDNs and single-page apps? | [`caching`] |
//! | How does a payment webhook know the referral? | [`webhooks`] |
//! | How is the signing key changed? | [`key_rotation`] |
//! | How do I test my own handlers? | [`testing`] |
//! | How do I move from another script's or my own cookie? | [`moving`] |
//! | Which touch keeps the credit? | [`attribution`] |
//! | Which parameter names survive privacy tools? | [`parameters`] |
//! | How do I keep a referral in my users table? | [`users_table`] |
//! | AWS Lambda, Cloudflare Workers, a hundred servers: what is to be set? | [`serverless`] |
//! | Why wasn't this visit captured? | [`troubleshooting`] |

#[doc = include_str!("../docs/guide/layer_order.md")]
pub mod layer_order {}

#[doc = include_str!("../docs/guide/subdomains.md")]
pub mod subdomains {}

#[doc = include_str!("../docs/guide/privacy.md")]
pub mod privacy {}

#[doc = include_str!("../docs/guide/caching.md")]
pub mod caching {}

#[doc = include_str!("../docs/guide/webhooks.md")]
pub mod webhooks {}

#[doc = include_str!("../docs/guide/key_rotation.md")]
pub mod key_rotation {}

#[doc = include_str!("../docs/guide/testing.md")]
pub mod testing {}

#[doc = include_str!("../docs/guide/moving.md")]
pub mod moving {}

#[doc = include_str!("../docs/guide/serverless.md")]
pub mod serverless {}

#[doc = include_str!("../docs/guide/troubleshooting.md")]
pub mod troubleshooting {}

#[doc = include_str!("../docs/guide/attribution.md")]
pub mod attribution {}

#[doc = include_str!("../docs/guide/parameters.md")]
pub mod parameters {}

#[doc = include_str!("../docs/guide/users_table.md")]
pub mod users_table {}
