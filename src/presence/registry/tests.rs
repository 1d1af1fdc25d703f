//! What several devices make of one identity, step by step.

use super::arrival::{Arrival, Nameless, TokenEnd, TooMany};
use super::consolidate::{Item, Rules};
use super::session::{Moment, Report, SessionRef, SocketId, Source};
use super::*;
use crate::clock::Clock;
use crate::presence::status::{Order, Reason};

struct Desk {
    clock: Clock,
    registry: Registry,
    sockets: u64,
}

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn rules() -> Rules {
    Rules {
        order: Order::default(),
        assume: Status::Offline,
        ring_away: false,
        calls_per_device: 1,
    }
}

impl Desk {
    fn new(rules: Rules) -> Self {
        let clock = Clock::manual();
        let at = Moment::of(&clock);
        let registry = Registry::new(rules, Duration::from_secs(15), 10, at, 1_000);
        Self {
            clock,
            registry,
            sockets: 0,
        }
    }

    fn at(&self) -> Moment {
        Moment::of(&self.clock)
    }

    fn arrival(&mut self, device: &str) -> Arrival {
        self.sockets += 1;
        Arrival {
            device: Ok(name(device)),
            app: name("app"),
            socket: SocketId(self.sockets),
            may_receive: true,
            has_audio: true,
            may_give: true,
            token: None,
            resume: None,
            next_resume: None,
        }
    }

    fn connect(&mut self, identity: &str, arrival: Arrival) -> SessionRef {
        let at = self.at();
        let connected = self.registry.connect(&name(identity), arrival, at);
        connected.unwrap().session
    }

    fn device(&mut self, identity: &str, device: &str, status: Status) -> SessionRef {
        let arrival = self.arrival(device);
        let session = self.connect(identity, arrival);
        self.say(&session, status);
        session
    }

    fn say(&mut self, session: &SessionRef, status: Status) {
        let at = self.at();
        let report = Report::of(status);
        assert!(self.registry.report(session, report, Source::Socket, at));
    }

    fn item(&self, identity: &str) -> Item {
        self.registry.item(&name(identity), true)
    }

    fn shown(&self, identity: &str) -> Status {
        self.item(identity).status
    }

    fn pass(&mut self, time: Duration) {
        self.clock.advance(time);
        let at = self.at();
        self.registry.expire(at);
    }
}

// B12: the status that counts most shows, in an order that can be configured; of equals the newest with its reason.
#[test]
fn the_status_that_counts_most_shows() {
    let mut desk = Desk::new(rules());
    desk.device("a", "1", Status::DoNotDisturb);
    let second = desk.device("a", "2", Status::Available);
    assert_eq!(desk.shown("a"), Status::Available);
    desk.say(&second, Status::Away);
    assert_eq!(desk.shown("a"), Status::DoNotDisturb);

    let order = Order::new(&[
        Status::Away,
        Status::DoNotDisturb,
        Status::Busy,
        Status::Available,
        Status::Unavailable,
        Status::Offline,
    ]);
    let order = order.unwrap();
    let turned = Rules { order, ..rules() };
    let at = desk.at();
    desk.registry
        .configure(turned, Duration::from_secs(15), 10, at);
    assert_eq!(
        desk.shown("a"),
        Status::Away,
        "a reload turns the order at once"
    );
}

// B14: a call makes its party busy and not ringable, and what was reported, even meanwhile, shows again after it.
#[test]
fn a_call_is_laid_over_what_is_reported() {
    let mut desk = Desk::new(rules());
    let session = desk.device("a", "1", Status::Available);
    let (at, before) = (desk.at(), desk.registry.version());
    desk.registry
        .begin_call((&session.identity, &session.device, &session.app), true, at);
    let item = desk.item("a");
    assert_eq!(
        (item.status, item.reason),
        (Status::Busy, Some(Reason::InCall))
    );
    assert!(!item.ringable);
    assert_eq!(
        item.devices.unwrap()[0].status,
        Status::Available,
        "nothing reported is overwritten"
    );
    assert_eq!(desk.registry.version(), before + 1);
    desk.registry
        .begin_call((&session.identity, &session.device, &session.app), true, at);
    desk.say(&session, Status::Away);
    desk.registry
        .end_call((&session.identity, &session.device, &session.app), at);
    assert_eq!(desk.shown("a"), Status::Busy, "one of two calls is left");
    desk.registry
        .end_call((&session.identity, &session.device, &session.app), at);
    assert_eq!(desk.shown("a"), Status::Away);
    let page = desk.registry.log_of(&name("a"), None, 10, at);
    let calls = page
        .entries
        .iter()
        .filter(|entry| entry.source == Source::Call);
    let shown: Vec<_> = calls.map(|entry| entry.shown).collect();
    assert_eq!(
        shown,
        [Status::Busy, Status::Away],
        "the log tells calls too"
    );
}

// B2: the rights to be called and to give presence are separate.
#[test]
fn who_may_not_give_is_rung_and_who_may_not_receive_is_shown() {
    let mut desk = Desk::new(Rules {
        assume: Status::Unavailable,
        ..rules()
    });
    let silent = Arrival {
        may_give: false,
        ..desk.arrival("1")
    };
    desk.connect("silent", silent);
    let item = desk.item("silent");
    assert_eq!((item.status, item.ringable), (Status::Unavailable, true));
    let deaf = Arrival {
        may_receive: false,
        has_audio: false,
        ..desk.arrival("1")
    };
    desk.connect("deaf", deaf);
    let item = desk.item("deaf");
    assert_eq!((item.status, item.ringable), (Status::Available, false));
}

// B25: the silent are taken for what the never seen are, until they report again; those who signed out are known to be gone.
#[test]
fn silence_is_assumed_and_a_report_restores() {
    let mut desk = Desk::new(Rules {
        assume: Status::Away,
        ..rules()
    });
    assert_eq!(desk.shown("a"), Status::Away);
    let put = |desk: &mut Desk| {
        let (at, ttl) = (desk.at(), Duration::from_secs(10));
        let who = (&name("a"), &name("d"), &name("app"));
        let report = Report::of(Status::Busy);
        desk.registry.put(who, report, ttl, None, Source::Api, at)
    };
    assert_eq!(put(&mut desk), Ok(true));
    desk.pass(Duration::from_secs(8));
    assert_eq!(
        put(&mut desk),
        Ok(false),
        "the same again changes nothing, and keeps it alive"
    );
    desk.pass(Duration::from_secs(8));
    assert_eq!(desk.shown("a"), Status::Busy);
    desk.pass(Duration::from_millis(2_300));
    assert_eq!(desk.shown("a"), Status::Away);
    assert_eq!(put(&mut desk), Ok(true));
    assert_eq!(desk.shown("a"), Status::Busy);
    let (session, _) = desk
        .registry
        .sessions_of(&name("a"), &name("d"), None)
        .remove(0);
    let at = desk.at();
    assert!(desk.registry.leave(&session, Source::Api, at));
    assert_eq!(desk.shown("a"), Status::Offline);
}

// B25: a report keeps a device registered whose socket was lost, for as long as it says; the socket may still come back.
#[test]
fn a_report_takes_over_a_lost_device() {
    let mut desk = Desk::new(rules());
    let lost = Arrival {
        next_resume: Some(7),
        ..desk.arrival("1")
    };
    let lost = desk.connect("a", lost);
    let at = desk.at();
    desk.registry.lose(&lost, at);
    let who = (&name("a"), &name("1"), &name("app"));
    let (report, ttl) = (Report::of(Status::Away), Duration::from_secs(60));
    let put = desk.registry.put(who, report, ttl, None, Source::Api, at);
    assert_eq!(put, Ok(true));
    desk.pass(Duration::from_secs(30));
    let item = desk.item("a");
    assert_eq!((item.status, item.ringable), (Status::Away, false));
    let back = Arrival {
        resume: Some(7),
        ..desk.arrival("1")
    };
    desk.connect("a", back);
    let item = desk.item("a");
    assert_eq!((item.status, item.device_count), (Status::Away, 1));
    assert_eq!(item.devices.unwrap()[0].channel, "socket");
}

// B38: the end of a token ends the session, and one that is renewed goes on.
#[test]
fn a_token_bounds_its_session() {
    let mut desk = Desk::new(rules());
    let end = |desk: &Desk, seconds| TokenEnd {
        at: desk.clock.now() + Duration::from_secs(seconds),
        key: "SK1".into(),
    };
    let bound = Arrival {
        token: Some(end(&desk, 60)),
        ..desk.arrival("1")
    };
    let session = desk.connect("a", bound);
    desk.pass(Duration::from_secs(50));
    let (renewed, at) = (end(&desk, 60), desk.at());
    desk.registry.renew(&session, true, true, Some(renewed), at);
    desk.pass(Duration::from_secs(50));
    assert_eq!(desk.item("a").device_count, 1);
    desk.clock.advance(Duration::from_secs(11));
    let at = desk.at();
    assert_eq!(
        desk.registry.expire(at),
        [SocketId(1)],
        "its socket is to be closed"
    );
    assert_eq!(desk.item("a").device_count, 0);

    let bound = Arrival {
        token: Some(end(&desk, 600)),
        ..desk.arrival("1")
    };
    desk.connect("a", bound);
    assert_eq!(desk.registry.revoke(|key| key == "SK1", at), []);
    assert_eq!(desk.registry.revoke(|key| key == "SK2", at), [SocketId(2)]);
}

// B11: devices that say no name are told apart, and one that was lost is taken over by its kind alone.
#[test]
fn a_nameless_device_takes_over_the_lost_one_of_its_kind() {
    let mut desk = Desk::new(rules());
    let nameless = |desk: &mut Desk, kind: u64, fresh: &str| Arrival {
        device: Err(Nameless {
            kind,
            fresh: name(fresh),
        }),
        ..desk.arrival("-")
    };
    let first = nameless(&mut desk, 1, "sdk-1");
    let first = desk.connect("a", first);
    let second = nameless(&mut desk, 1, "sdk-2");
    desk.connect("a", second);
    assert_eq!(
        desk.item("a").device_count,
        2,
        "two that live are two devices"
    );
    let at = desk.at();
    desk.registry.lose(&first, at);
    let other = nameless(&mut desk, 2, "sdk-3");
    desk.connect("a", other);
    assert_eq!(
        desk.item("a").device_count,
        3,
        "another kind takes over nothing"
    );
    let back = nameless(&mut desk, 1, "sdk-4");
    let back = desk.connect("a", back);
    assert_eq!(back.device, first.device);
    assert!(back.epoch > first.epoch);
    assert!(
        !desk.registry.leave(&first, Source::Socket, at),
        "the lost socket's end comes too late"
    );
}

// Everything is bounded: identities are forgotten only when nobody of them is there, the longest gone first.
#[test]
fn devices_are_bounded_and_lost_ones_give_way() {
    let mut desk = Desk::new(rules());
    let sessions: Vec<_> = (0..10)
        .map(|number| desk.device("a", &number.to_string(), Status::Available))
        .collect();
    let at = desk.at();
    let eleventh = desk.arrival("11");
    let refused = desk.registry.connect(&name("a"), eleventh.clone(), at);
    assert_eq!(refused, Err(TooMany::Devices(10)));
    desk.registry.lose(&sessions[3], at);
    desk.registry.connect(&name("a"), eleventh, at).unwrap();
    let devices = desk.item("a").devices.unwrap();
    assert!(!devices.iter().any(|of| of.device.as_str() == "3"));
}

// B29: a name is tried whole; only if nobody has it does its end name a device.
#[test]
fn a_sub_name_means_one_device_unless_somebody_has_the_whole_name() {
    let mut desk = Desk::new(rules());
    let dialled = name("alice/mobile");
    desk.device("alice", "mobile", Status::Available);
    let device = (name("alice"), Some(name("mobile")));
    assert_eq!(desk.registry.addressed(&dialled), device);
    desk.device("alice/mobile", "desk", Status::Available);
    assert_eq!(desk.registry.addressed(&dialled), (dialled.clone(), None));
    let odd = name("/");
    assert_eq!(desk.registry.addressed(&odd), (odd.clone(), None));
}

// B40: the log tells each change once, with what made it.
#[test]
fn the_log_tells_who_changed_what() {
    let mut desk = Desk::new(rules());
    let session = desk.device("a", "1", Status::Busy);
    desk.say(&session, Status::Busy);
    desk.pass(Duration::from_secs(2));
    let at = desk.at();
    desk.registry.lose(&session, at);
    desk.pass(Duration::from_secs(16));
    let page = desk.registry.log_of(&name("a"), None, 10, desk.at());
    let told = page
        .entries
        .iter()
        .map(|entry| (entry.old, entry.new, entry.source));
    let told: Vec<_> = told.collect();
    assert_eq!(
        told,
        [
            (Status::Offline, Status::Available, Source::Socket),
            (Status::Available, Status::Busy, Source::Socket),
            (Status::Busy, Status::Offline, Source::Silence),
        ]
    );
    assert!((page.time_in_state["busy"] - 18.0).abs() < 1.0);
}
