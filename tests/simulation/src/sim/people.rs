//! The people: clients who write, read, move and change their minds, and an operator who interferes. What a
//! region has acknowledged to a client is remembered here, and must be found for ever after.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use domicile_types::{AccountId, Code, Ctx, ItemId, ObjectId, SubjectId};

use super::desk::{Answer, Ask, Person, ask};
use super::garbled::CANARY;
use super::world::{REGIONS, World};
use crate::conformance::{SeededRng, SuiteClock};

/// How often a question is put before it is given up for now.
const TRIES: u32 = 4;

/// One client's memory of their record.
pub(super) struct Client {
    world: Arc<World>,
    rng: SeededRng,
    ctx: Ctx,
    /// Whose record.
    pub(super) person: Person,
    number: usize,
    home: &'static str,
    moving: Option<(&'static str, String)>,
    /// Acknowledged versions' texts, by item.
    acked: BTreeMap<String, Vec<String>>,
    /// Acknowledged objects' texts.
    objects: BTreeMap<String, String>,
    /// A write whose outcome is not known: it is repeated before anything else is written.
    open: Option<Ask>,
}

/// Whether the faults are over, and whether the operator has put everything in order.
#[derive(Default)]
pub(super) struct Phase {
    pub(super) healed: AtomicBool,
    pub(super) in_order: AtomicBool,
}

impl Client {
    /// A client whose record is at home in a region.
    pub(super) fn new(world: &Arc<World>, number: usize, seed: u64, home: &'static str) -> Self {
        let ctx = SuiteClock::new().ctx(seed ^ 0xC11E);
        let (subject, account) = (SubjectId::generate(&ctx), AccountId::generate(&ctx));
        let person = Person { subject: subject.to_string(), account: account.to_string() };
        if let Some(region) = world.regions.get(home) {
            region.disk.settle(subject, account, ctx.now());
        }
        Self {
            world: Arc::clone(world),
            rng: SeededRng::new(seed),
            ctx,
            person,
            number,
            home,
            moving: None,
            acked: BTreeMap::new(),
            objects: BTreeMap::new(),
            open: None,
        }
    }

    /// Lives until everything rests, and then looks whether everything is there.
    pub(super) async fn live(mut self, phase: Arc<Phase>) {
        while !phase.healed.load(Ordering::Relaxed) {
            let pause = 40 + self.rng.below(700);
            tokio::time::sleep(Duration::from_millis(pause)).await;
            self.something().await;
        }
        while !phase.in_order.load(Ordering::Relaxed) {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        self.come_to_rest().await;
        self.find_everything().await;
    }

    fn tell(&self, what: &str) {
        self.world.tell(&format!("client {}", self.number), what);
    }

    fn broken(&self, what: &str) {
        self.world.broken(format!("client {}: {what}", self.number));
    }

    async fn something(&mut self) {
        if self.rng.chance(45) {
            return self.tend_move().await;
        }
        if self.open.is_some() {
            return self.repeat().await;
        }
        match self.rng.below(10) {
            0..=5 => self.write().await,
            6 => self.upload().await,
            7 => self.read_one().await,
            8 => self.fetch_one().await,
            _ => self.withdraw().await,
        }
    }

    fn key(&self) -> String {
        format!("{:032x}", u128::from_be_bytes(self.ctx.random()))
    }

    /// Asks the record's home, as far as it is known, and follows it. `None` when nobody gave an answer.
    async fn at_home(&mut self, question: &Ask) -> Option<Answer> {
        for _ in 0..TRIES {
            match ask(self.home, question).await {
                Some(Answer::Refused { code, moved }) => {
                    let moved = REGIONS.into_iter().find(|name| moved.as_deref() == Some(name));
                    if let Some(region) = moved.filter(|region| *region != self.home) {
                        self.home = region;
                    } else if code == Code::NotFound.as_str() && self.elsewhere() {
                        // Where it is said to be it is not yet known: whoever had it last knows where it goes.
                    } else if !waits(&code) || given_up(question, &code) {
                        return Some(Answer::Refused { code, moved: None });
                    }
                }
                Some(answer) => return Some(answer),
                None if self.rng.chance(25) => drop(self.elsewhere()),
                None => {}
            }
            let pause = 100 + self.rng.below(900);
            tokio::time::sleep(Duration::from_millis(pause)).await;
        }
        None
    }

    fn elsewhere(&mut self) -> bool {
        let at = usize::try_from(self.rng.below(REGIONS.len() as u64)).unwrap_or(0);
        self.home = REGIONS.get(at).copied().unwrap_or("eu");
        true
    }

    async fn write(&mut self) {
        let known = usize::try_from(self.rng.below(self.acked.len() as u64 + 1)).unwrap_or(0);
        let item =
            self.acked.keys().nth(known).cloned().unwrap_or_else(|| ItemId::generate(&self.ctx).to_string());
        let version = self.acked.get(&item).map_or(0, Vec::len) + 1;
        let text = format!("{CANARY} {} {item} {version}", self.number);
        let version = u32::try_from(version).unwrap_or(u32::MAX);
        self.open = Some(Ask::Write { person: self.person.clone(), item, version, key: self.key(), text });
        self.repeat().await;
    }

    async fn upload(&mut self) {
        let (object, item) =
            (ObjectId::generate(&self.ctx).to_string(), ItemId::generate(&self.ctx).to_string());
        let text = format!(
            "{CANARY} {} {object} {}",
            self.number,
            "x".repeat(usize::try_from(self.rng.below(3_000)).unwrap_or(0))
        );
        self.open = Some(Ask::Upload { person: self.person.clone(), object, item, key: self.key(), text });
        self.repeat().await;
    }

    /// Puts the open write again, with its own key, until it is known what became of it.
    async fn repeat(&mut self) {
        let Some(question) = self.open.clone() else { return };
        let Some(answer) = self.at_home(&question).await else { return };
        self.open = None;
        match (question, answer) {
            (Ask::Write { item, version, text, .. }, Answer::Version(written)) => {
                if written != version {
                    self.broken(&format!(
                        "invariant 13: version {version} of {item} was answered as {written}"
                    ));
                }
                self.tell(&format!("wrote version {version}"));
                self.acked.entry(item).or_default().push(text);
            }
            (Ask::Upload { object, text, .. }, Answer::Version(_)) => {
                self.tell("uploaded");
                self.objects.insert(object, text);
            }
            (Ask::Write { item, version, .. }, Answer::Refused { code, .. })
                if code == Code::VersionConflict.as_str() =>
            {
                self.broken(&format!("invariant 2: version {} of {item} is lost", version.saturating_sub(1)));
            }
            _ => {}
        }
    }

    async fn read_one(&mut self) {
        let at = usize::try_from(self.rng.below(self.acked.len() as u64)).unwrap_or(0);
        let Some((item, texts)) =
            self.acked.iter().nth(at).map(|(item, texts)| (item.clone(), texts.clone()))
        else {
            return;
        };
        let question = Ask::Read { person: self.person.clone(), item: item.clone(), version: None };
        if let Some(Answer::Text { text, version, home }) = self.at_home(&question).await {
            let at = usize::try_from(version).unwrap_or(0);
            let known = at.checked_sub(1).and_then(|at| texts.get(at));
            if known.is_some_and(|known| *known != text) {
                self.broken(&format!("invariant 7: version {version} of {item} reads otherwise"));
            }
            if home && at < texts.len() {
                self.broken(&format!(
                    "invariant 2: home shows version {version} of {item}, {} was acknowledged",
                    texts.len()
                ));
            }
        }
    }

    async fn fetch_one(&mut self) {
        let at = usize::try_from(self.rng.below(self.objects.len() as u64)).unwrap_or(0);
        let Some((object, known)) = self.objects.iter().nth(at).map(|(id, text)| (id.clone(), text.clone()))
        else {
            return;
        };
        let question = Ask::Fetch { person: self.person.clone(), object: object.clone() };
        if let Some(Answer::Text { text, .. }) = self.at_home(&question).await
            && text != known
        {
            self.broken(&format!("invariant 7: object {object} reads otherwise"));
        }
    }

    /// Asks for a move, or looks after the one under way.
    async fn tend_move(&mut self) {
        let Some((source, transfer)) = self.moving.clone() else {
            let to = REGIONS.into_iter().filter(|name| *name != self.home);
            let to: Vec<_> = to.collect();
            let at = usize::try_from(self.rng.below(to.len() as u64)).unwrap_or(0);
            let to = to.get(at).copied().unwrap_or("us").to_owned();
            let question = Ask::Move { person: self.person.clone(), to: to.clone(), key: self.key() };
            if let Some(Answer::Transfer { id, .. }) = self.at_home(&question).await {
                self.tell(&format!("asks to move from {} to {to}", self.home));
                self.moving = Some((self.home, id));
            }
            return;
        };
        let consent = self.rng.chance(85);
        let question = Ask::Look { person: self.person.clone(), transfer, consent };
        if let Some(Answer::Transfer { state, .. }) = ask(source, &question).await
            && matches!(state.as_str(), "closed" | "aborted" | "aborting")
        {
            self.tell(&format!("sees the move {state}"));
            self.moving = None;
        }
    }

    async fn withdraw(&mut self) {
        let Some((source, transfer)) = self.moving.clone().filter(|_| self.rng.chance(35)) else { return };
        let question = Ask::Withdraw { person: self.person.clone(), transfer };
        if let Some(Answer::Transfer { state, .. }) = ask(source, &question).await {
            self.tell(&format!("withdrew: {state}"));
            self.moving = None;
        }
    }

    /// The faults are over: what is open is decided, and the move under way is awaited.
    async fn come_to_rest(&mut self) {
        while self.open.is_some() {
            self.repeat().await;
        }
        loop {
            for region in REGIONS {
                let Some(Answer::Transfers(rows)) = ask(region, &Ask::List).await else { continue };
                for (transfer, state) in rows {
                    if state == "preflighted" {
                        let consent = self.rng.chance(50);
                        let person = self.person.clone();
                        let question = match consent {
                            true => Ask::Look { person, transfer, consent },
                            false => Ask::Withdraw { person, transfer },
                        };
                        drop(ask(region, &question).await);
                    }
                }
            }
            if self.world.at_rest() {
                return;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    /// Every acknowledged version and object, read from the record's home.
    async fn find_everything(&mut self) {
        let acked = std::mem::take(&mut self.acked);
        let (mut versions, objects) = (0, self.objects.len());
        for (item, texts) in &acked {
            for (at, known) in texts.iter().enumerate() {
                let version = Some(u32::try_from(at + 1).unwrap_or(u32::MAX));
                let question = Ask::Read { person: self.person.clone(), item: item.clone(), version };
                versions += 1;
                match self.certainly(&question).await {
                    Answer::Text { text, home: true, .. } if text == *known => {}
                    other => self
                        .broken(&format!("invariant 2: {item} version {version:?} is not found: {other:?}")),
                }
            }
        }
        for (object, known) in self.objects.clone() {
            let question = Ask::Fetch { person: self.person.clone(), object: object.clone() };
            match self.certainly(&question).await {
                Answer::Text { text, home: true, .. } if text == known => {}
                other => self.broken(&format!("invariant 2: object {object} is not found: {other:?}")),
            }
        }
        self.world.count(versions, objects);
        self.tell(&format!("found {versions} versions and {objects} objects at {}", self.home));
    }

    async fn certainly(&mut self, question: &Ask) -> Answer {
        let mut last = Answer::Done;
        for _ in 0..20 {
            match self.at_home(question).await {
                Some(Answer::Refused { code, moved }) => last = Answer::Refused { code, moved },
                Some(answer @ Answer::Text { home: true, .. }) => return answer,
                Some(answer) => last = answer,
                None => {}
            }
        }
        last
    }
}

/// Whether an upload is in its own way: an earlier try of it was cut off and left its intent behind.
fn given_up(question: &Ask, code: &str) -> bool {
    matches!(question, Ask::Upload { .. }) && code == Code::Conflict.as_str()
}

/// Whether the same question may be answered better in a moment.
fn waits(code: &str) -> bool {
    let codes = [
        Code::RecordFrozen,
        Code::RecordArriving,
        Code::StoreUnavailable,
        Code::AnswerLost,
        Code::KeyUnavailable,
        Code::KeyDenied,
        Code::ObjectStoreUnavailable,
        Code::NotFound,
        Code::Conflict,
    ];
    codes.iter().any(|known| known.as_str() == code)
}

/// An operator: holds and lets go, ends transfers, places and releases holds; and puts everything in order
/// once the faults are over.
pub(super) async fn operate(world: Arc<World>, seed: u64, people: Vec<Person>, phase: Arc<Phase>) {
    let rng = SeededRng::new(seed);
    while !phase.healed.load(Ordering::Relaxed) {
        tokio::time::sleep(Duration::from_millis(500 + rng.below(4_000))).await;
        let at = usize::try_from(rng.below(REGIONS.len() as u64)).unwrap_or(0);
        let region = REGIONS.get(at).copied().unwrap_or("eu");
        if rng.chance(20) {
            let at = usize::try_from(rng.below(people.len() as u64)).unwrap_or(0);
            let Some(person) = people.get(at).cloned() else { continue };
            drop(ask(region, &Ask::Hold { person, stands: rng.chance(40) }).await);
            continue;
        }
        let Some(Answer::Transfers(rows)) = ask(region, &Ask::List).await else { continue };
        let at = usize::try_from(rng.below(rows.len() as u64)).unwrap_or(0);
        let Some((transfer, _)) = rows.get(at).cloned() else { continue };
        let what = match rng.below(12) {
            0..=3 => "pause",
            4 => "cancel",
            _ => "resume",
        };
        if let Some(Answer::Transfer { state, .. }) =
            ask(region, &Ask::Operate { transfer, what: what.to_owned() }).await
        {
            world.tell("operator", &format!("{what} at {region}: {state}"));
        }
    }
    for region in REGIONS {
        while !in_order(region, &people).await {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }
    world.tell("operator", "everything is in order");
    phase.in_order.store(true, Ordering::Relaxed);
}

/// Releases every hold and lets every transfer of a region go on; whether all of it was answered.
async fn in_order(region: &str, people: &[Person]) -> bool {
    for person in people {
        if ask(region, &Ask::Hold { person: person.clone(), stands: false }).await.is_none() {
            return false;
        }
    }
    let Some(Answer::Transfers(rows)) = ask(region, &Ask::List).await else { return false };
    for (transfer, _) in rows {
        let resume = Ask::Operate { transfer, what: "resume".to_owned() };
        if ask(region, &resume).await.is_none() {
            return false;
        }
    }
    true
}
