//! Rolling key rotation over five servers whose clocks differ by up to two minutes either way, and
//! which is interrupted at every step: no referral is lost, and none is accepted by a server that
//! no longer has its key.

use crate::common::{COOKIE_NAME, Clock, DAY, MILLISECOND, Shop, signing_key, with_cookie_line};
use std::time::Duration;
use time::OffsetDateTime;
use tower_referral::carry::Carry;
use tower_referral::{Attribution, Keyring, Program, SignedCookie, SigningKey};

const WINDOW: Duration = Duration::from_secs(10 * 86_400);
/// How far each server's clock is ahead, in seconds.
const AHEAD: [i64; 5] = [-120, 120, 0, -60, 60];

/// How far a server is in the rotation.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
enum Phase {
    /// The old key alone.
    Before,
    /// The old one signs, the new one verifies.
    Taught,
    /// The new one signs, the old one verifies.
    Switched,
    /// The new key alone.
    After,
}

use Phase::{After, Before, Switched, Taught};

fn old() -> SigningKey {
    signing_key("2026-11", 1)
}

fn new() -> SigningKey {
    signing_key("2027-05", 2)
}

impl Phase {
    fn keyring(self) -> Keyring {
        match self {
            Before => Keyring::new(old()),
            Taught => Keyring::new(old()).verify_with(new()).unwrap(),
            Switched => Keyring::new(new()).verify_with(old()).unwrap(),
            After => Keyring::new(new()),
        }
    }

    fn signs_with_new(self) -> bool {
        self >= Switched
    }

    fn knows(self, signed_with_new: bool) -> bool {
        if signed_with_new {
            self != Before
        } else {
            self != After
        }
    }
}

struct Server {
    clock: Clock,
    phase: Phase,
    shop: Shop,
}

impl Server {
    fn new(ahead: i64) -> Self {
        let clock = Clock::new();
        clock.set(clock.now() + time::Duration::seconds(ahead));
        let shop = open(&clock, Before);
        Self {
            clock,
            phase: Before,
            shop,
        }
    }

    fn restart(&mut self, phase: Phase) {
        self.phase = phase;
        self.shop = open(&self.clock, phase);
    }

    fn carry(&self) -> Carry {
        let builder = Carry::builder(self.phase.keyring()).clock(self.clock.reader());
        builder.ttl(WINDOW).build().unwrap()
    }
}

fn open(clock: &Clock, phase: Phase) -> Shop {
    Shop::at(
        clock.clone(),
        SignedCookie::new(phase.keyring()),
        |builder| {
            let program = Program::default().window(WINDOW);
            builder.program(program.attribution(Attribution::FirstTouch))
        },
    )
}

fn servers() -> Vec<Server> {
    AHEAD.map(Server::new).into()
}

/// A visitor who landed once.
struct Visitor {
    line: String,
    captured_at: OffsetDateTime,
    signed_with_new: bool,
    token: String,
}

fn land(server: &Server) -> Visitor {
    let page = server.shop.send(crate::common::page_visit("/?aff=K"));
    Visitor {
        line: format!("{COOKIE_NAME}={}", page.kept_value()),
        captured_at: server.clock.now(),
        signed_with_new: server.phase.signs_with_new(),
        token: page
            .referral()
            .unwrap()
            .carry_token(&server.carry())
            .unwrap()
            .to_string(),
    }
}

/// Is the referral's time now, by this server's clock?
fn is_alive(visitor: &Visitor, server: &Server) -> bool {
    server.clock.now() - visitor.captured_at < WINDOW
}

/// Sends the visitor to the server: what is found must be what the server can know.
fn visit(visitor: &Visitor, server: &Server, case: &str) -> bool {
    let page = server.shop.send(with_cookie_line("/", &visitor.line));
    assert!(!page.changed(), "{case}: reading never writes");
    let should_be = server.phase.knows(visitor.signed_with_new) && is_alive(visitor, server);
    assert_eq!(page.key().is_some(), should_be, "{case}");
    if should_be {
        let found = page.referral().unwrap().captured_at();
        assert_eq!(found, visitor.captured_at, "{case}: the clock stays");
    }
    should_be
}

/// First touch: another partner takes the place of nothing but what is gone.
fn land_again(visitor: &Visitor, server: &Server, case: &str) {
    let is_there = server.phase.knows(visitor.signed_with_new) && is_alive(visitor, server);
    let page = server
        .shop
        .send(with_cookie_line("/?aff=OTHER", &visitor.line));
    assert_eq!(page.changed(), !is_there, "{case}: {}", page.reason());
}

/// What an operator does, one after the other.
#[derive(Clone, Copy, Debug)]
enum Act {
    Restart(usize, Phase),
    Wait,
}

/// The three rounds of a rotation; the last one waits until nothing is left that the old key signed.
fn rotation() -> Vec<Act> {
    let round = |phase| (0..AHEAD.len()).map(move |at| Act::Restart(at, phase));
    round(Taught)
        .chain(round(Switched))
        .chain([Act::Wait; 4])
        .chain(round(After))
        .collect()
}

/// Lets four days pass with each act, and a visitor land on every server; all visitors go
/// to all servers before and after. Gives how often a referral was found.
fn carry_out(acts: &[Act], case: &str) -> u64 {
    let mut servers = servers();
    let mut visitors: Vec<Visitor> = Vec::new();
    let mut found = 0;
    for (at, act) in acts.iter().enumerate() {
        if let Act::Restart(server, phase) = act {
            servers[*server].restart(*phase);
        }
        visitors.extend(servers.iter().map(land));
        for days in [0, 4] {
            servers
                .iter()
                .for_each(|server| server.clock.pass(DAY * days));
            for (who, visitor) in visitors.iter().enumerate() {
                for (which, server) in servers.iter().enumerate() {
                    let case = format!("{case}, act {at}, visitor {who}, server {which}");
                    let is_found = visit(visitor, server, &case);
                    assert_eq!(is_found, is_alive(visitor, server), "{case}: lost");
                    if who % servers.len() == which {
                        land_again(visitor, server, &case);
                    }
                    found += u64::from(is_found);
                }
            }
        }
        // One cohort that is past its time is kept, to see that it stays gone.
        visitors.retain(|visitor| servers[2].clock.now() - visitor.captured_at < WINDOW + DAY * 2);
    }
    assert!(servers.iter().all(|server| server.phase == After), "{case}");
    found
}

#[test]
fn a_rotation_that_is_interrupted_at_any_step_loses_nothing() {
    let acts = rotation();
    for interrupted in 0..=acts.len() {
        let (done, rest) = acts.split_at(interrupted);
        let pause = [Act::Wait; 5];
        let acts = [done, &pause, rest].concat();
        let found = carry_out(&acts, &format!("a pause after {interrupted}"));
        assert!(found > 500, "{found}");
    }
}

#[test]
fn a_rotation_that_is_taken_back_at_any_step_and_begun_again_loses_nothing() {
    let acts = rotation();
    for interrupted in 0..=acts.len() {
        // Back through the same states: the last restart is undone first.
        let mut states = vec![[Before; 5]];
        for act in &acts[..interrupted] {
            let mut state = *states.last().unwrap();
            if let Act::Restart(server, phase) = act {
                state[*server] = *phase;
            }
            states.push(state);
        }
        let undo = states.windows(2).rev().map(|two| {
            let changed = (0..5).find(|at| two[0][*at] != two[1][*at]);
            changed.map_or(Act::Wait, |at| Act::Restart(at, two[0][at]))
        });
        let undo: Vec<_> = undo.collect();
        // Before the new key is taken away again, what it signed runs out.
        let teaching = undo.len().min(5);
        let (switched, taught) = undo.split_at(undo.len() - teaching);
        let again = [
            &acts[..interrupted],
            switched,
            &[Act::Wait; 4],
            taught,
            &acts,
        ]
        .concat();
        carry_out(&again, &format!("taken back after {interrupted}"));
    }
}

#[test]
fn a_key_that_is_dropped_at_once_opens_nothing_wherever_it_is_gone() {
    let mut servers = servers();
    let visitors: Vec<_> = servers.iter().map(land).collect();
    for restarted in 0..=servers.len() {
        for visitor in &visitors {
            for (at, server) in servers.iter().enumerate() {
                let case = format!("{restarted} restarted, server {at}");
                assert_eq!(visit(visitor, server, &case), at >= restarted, "{case}");
                land_again(visitor, server, &case);
                let opened = server.carry().open(&visitor.token);
                assert_eq!(opened.is_ok(), at >= restarted, "{case}, as a token");
            }
        }
        if let Some(server) = servers.get_mut(restarted) {
            server.restart(After);
        }
    }
    // Nor does another secret under the old key's name.
    let namesake = Keyring::new(new())
        .verify_with(signing_key("2026-11", 3))
        .unwrap();
    let shop = Shop::at(Clock::new(), SignedCookie::new(namesake), |builder| builder);
    for visitor in &visitors {
        let page = shop.send(with_cookie_line("/", &visitor.line));
        assert_eq!(page.key(), None);
    }
}

#[test]
fn the_window_ends_by_the_clock_of_the_server_that_reads() {
    for lands_on in 0..AHEAD.len() {
        let servers = servers();
        let visitor = land(&servers[lands_on]);
        for (reads_on, server) in servers.iter().enumerate() {
            let case = format!("{lands_on} to {reads_on}");
            assert!(visit(&visitor, server, &case), "{case}: at once");
            server.clock.set(visitor.captured_at + WINDOW - MILLISECOND);
            assert!(
                visit(&visitor, server, &case),
                "{case}: the last millisecond"
            );
            server.clock.pass(MILLISECOND);
            assert!(!visit(&visitor, server, &case), "{case}: gone");
        }
    }
}
