//! Which of two touches keeps the credit.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::common::{DAY, MILLISECOND, Shop};
use tower_referral::{Attribution, Program, Reason, Verdict};

in_every_way! {
    last_touch_is_the_default_and_the_newer_key_wins,
    first_touch_keeps_the_older_key_until_its_window_ends,
    the_same_key_again_changes_nothing_whatever_the_rule,
    no_key_changes_nothing,
    a_rule_of_your_own_sees_both_and_names_its_reason,
    the_winner_is_visible_to_the_handler_of_the_very_landing,
}

fn shop(attribution: Attribution) -> Shop {
    Shop::program(Program::default().attribution(attribution))
}

fn last_touch_is_the_default_and_the_newer_key_wins() {
    for shop in [Shop::new(), shop(Attribution::LastTouch)] {
        let mut visitor = shop.visitor();
        visitor.visit("/?aff=A");
        shop.clock.pass(DAY);
        let page = visitor.visit("/b?ref=B");
        assert_eq!((page.key(), page.reason()), (Some("B"), "captured"));
        let kept = visitor.visit("/");
        let kept = kept.referral().unwrap();
        assert_eq!(kept.captured_at(), shop.clock.now(), "a new clock");
        assert_eq!(kept.landing_page().as_deref(), Some("/b?ref=B"));
    }
}

fn first_touch_keeps_the_older_key_until_its_window_ends() {
    let shop = shop(Attribution::FirstTouch);
    let mut visitor = shop.visitor();
    visitor.visit("/?aff=A");
    for _ in 0..29 {
        shop.clock.pass(DAY);
        let page = visitor.visit("/?aff=B");
        assert_eq!((page.key(), page.reason()), (Some("A"), "kept_first_touch"));
        assert!(!page.changed());
    }
    shop.clock.pass(DAY - MILLISECOND);
    assert_eq!(visitor.visit("/?aff=B").key(), Some("A"));
    shop.clock.pass(MILLISECOND);
    let page = visitor.visit("/?aff=B");
    assert_eq!((page.key(), page.reason()), (Some("B"), "captured"));
}

fn the_same_key_again_changes_nothing_whatever_the_rule() {
    let never = Attribution::rule(|_, _| panic!("the keys don't differ"));
    for (name, attribution) in [
        ("first touch", Attribution::FirstTouch),
        ("last touch", Attribution::LastTouch),
        ("a rule", never),
    ] {
        let shop = shop(attribution);
        let mut visitor = shop.visitor();
        let captured_at = shop.clock.now();
        visitor.visit("/one?aff=K");
        shop.clock.pass(DAY);
        for again in ["/two?aff=K", "/?ref=K", "/?aff=%4b", "/?aff=&aff=K"] {
            let page = visitor.visit(again);
            assert_eq!(page.reason(), "same_key", "{name}: {again}");
            assert!(!page.changed(), "{name}: {again}");
            let kept = page.referral().unwrap();
            assert_eq!(kept.captured_at(), captured_at, "{name}: {again}");
            assert_eq!(kept.landing_page().as_deref(), Some("/one?aff=K"), "{name}");
        }
    }
    let mut visitor = shop(Attribution::LastTouch).visitor();
    visitor.visit("/?aff=K");
    assert_eq!(visitor.visit("/?aff=k").key(), Some("k"), "case matters");
}

fn no_key_changes_nothing() {
    for attribution in [Attribution::FirstTouch, Attribution::LastTouch] {
        let mut visitor = shop(attribution).visitor();
        visitor.visit("/?aff=K");
        for path in ["/", "/?", "/?q=1", "/?affiliate=X"] {
            let page = visitor.visit(path);
            assert_eq!((page.key(), page.reason()), (Some("K"), "none"), "{path}");
            assert!(!page.changed(), "{path}");
        }
    }
}

fn a_rule_of_your_own_sees_both_and_names_its_reason() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let shop = shop(Attribution::rule(move |kept, new| {
        count.fetch_add(1, Ordering::SeqCst);
        assert_eq!((kept.program(), new.program()), ("default", "default"));
        if new.captured_at() - kept.captured_at() < DAY * 7 {
            Verdict::Keep("within_a_week")
        } else {
            Verdict::Replace("after_a_week")
        }
    }));
    let mut visitor = shop.visitor();
    let page = visitor.visit("/?aff=A");
    assert_eq!(
        (page.reason(), asked.load(Ordering::SeqCst)),
        ("captured", 0)
    );
    shop.clock.pass(DAY);
    let page = visitor.visit("/?aff=B");
    assert_eq!((page.key(), page.reason()), (Some("A"), "within_a_week"));
    assert!(!page.changed());
    shop.clock.pass(DAY * 6);
    let page = visitor.visit("/?aff=B");
    assert_eq!((page.key(), page.reason()), (Some("B"), "after_a_week"));
    assert_eq!(
        page.decisions().last_of("default"),
        Some(Reason::Rule("after_a_week"))
    );
    assert_eq!(asked.load(Ordering::SeqCst), 2);
}

fn the_winner_is_visible_to_the_handler_of_the_very_landing() {
    let mut visitor = Shop::new().visitor();
    for key in ["A", "B", "A"] {
        assert_eq!(visitor.visit(&format!("/?aff={key}")).key(), Some(key));
    }
}
