//! What a network does to a transfer, and what came of it.

use std::collections::BTreeSet;
use std::time::Duration;

use domicile_cli::client::answer;
use domicile_proto::records::v1::PutItemRequest;
use domicile_proto::transfer::v1::{GetTransferRequest, TransferState};
use tokio::sync::watch;
use tokio::time::Instant;

use super::seen::Seen;
use super::stage::{Lines, Stage, both_ways};
use super::writer::{one_home, write_on};
use crate::kill::arena::{REGIONS, notes};
use crate::kill::cell::{rest, settled};
use crate::kill::database::Database;
use crate::kill::invariants::{Before, End};
use crate::kill::journey;
use crate::kill::points::Role;
use crate::world::moves::note;
use crate::world::{Moving, Outcome, PATIENCE, Patient, World, pause};

/// How much later everything arrives on a slow line, each way.
pub const LATE: Duration = Duration::from_millis(200);
/// On a line with which no freeze can be kept.
pub const TOO_LATE: Duration = Duration::from_millis(1_200);
/// A short cut: connections outlive it.
pub const SHORT: Duration = Duration::from_secs(10);
/// A long one: whoever pings its connections gives them up meanwhile.
pub const LONG: Duration = Duration::from_secs(30);
/// How long the cut between Released and Adopted lasts.
pub const MINUTE: Duration = Duration::from_secs(60);
/// The freezes that must run out on a line that is too late, before it is mended.
const THAWS: usize = 2;

/// What happens while a process stands at a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// Every line is late until the transfer rests.
    Late,
    /// Every line is so late that the record is thawed, twice; then as fast as ever.
    TooLate,
    /// Every line stands still for a while, with everything that is under way.
    Still(Duration),
    /// Every connection is forgotten by what lies between its ends.
    Forgotten,
    /// Nothing that the first sends arrives at the second.
    OneWay(Role, Role),
    /// Nothing passes between this one and anybody, for a while.
    Cut(Role),
    /// The destination's machine is gone without a word, and comes back.
    Gone,
    /// Nothing passes between the destination and anybody, for a minute.
    Alone,
    /// Nothing passes between the regions, for a minute; the coordinator reaches both.
    Apart,
    /// Nothing passes between the destination and anybody, for a while, and the client withdraws.
    Withdrawn,
}

/// One scene.
#[derive(Clone, Copy, Debug)]
pub struct Scene {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it is, for the table.
    pub what: &'static str,
    /// How processes reach each other.
    pub lines: Lines,
    /// When it happens.
    pub at: (Role, &'static str),
    /// What happens.
    pub trouble: Trouble,
}

impl Scene {
    /// How the transfer must end.
    #[must_use]
    pub const fn end(&self) -> End {
        if matches!(self.trouble, Trouble::Withdrawn) { End::Aborted } else { End::Closed }
    }
}

use Role::{Coordinator, Destination, Source};

const fn proxied(
    name: &'static str,
    what: &'static str,
    at: (Role, &'static str),
    trouble: Trouble,
) -> Scene {
    Scene { name, what, lines: Lines::Proxied, at, trouble }
}

const fn direct(name: &'static str, what: &'static str, at: (Role, &'static str), trouble: Trouble) -> Scene {
    Scene { name, what, lines: Lines::Direct, at, trouble }
}

const CONSENTED: (Role, &str) = (Source, "transfer_consent.after");
const PULLED: (Role, &str) = (Destination, "transfer_page.after");
const FROZEN: (Role, &str) = (Source, "transfer_freeze.after");
const STAGED: (Role, &str) = (Destination, "transfer_stage.after");
const RELEASED: (Role, &str) = (Source, "transfer_release.after");
const ADOPTED: (Role, &str) = (Destination, "transfer_adopt.after");
const REKEYED: (Role, &str) = (Destination, "transfer_rekeyed.after");
const SHREDDED: (Role, &str) = (Source, "transfer_shredded.after");

/// All of them.
pub const SCENES: &[Scene] = &[
    proxied("late", "every line 200 ms late each way, from consent to rest", CONSENTED, Trouble::Late),
    proxied(
        "too-late",
        "every line 1.2 s late each way until the record was thawed twice",
        PULLED,
        Trouble::TooLate,
    ),
    proxied("still", "every line stands still in the middle of the copy", PULLED, Trouble::Still(SHORT)),
    proxied("still-long", "the same, for longer than pings wait", PULLED, Trouble::Still(LONG)),
    proxied(
        "still-frozen",
        "every line stands still while the record is frozen",
        FROZEN,
        Trouble::Still(SHORT),
    ),
    proxied(
        "half-open-copy",
        "every open connection carries nothing any more in the copy, neither end is told",
        PULLED,
        Trouble::Forgotten,
    ),
    proxied("half-open-released", "the same right after Released", RELEASED, Trouble::Forgotten),
    direct(
        "source-destination",
        "nothing the source sends arrives at the destination, in the copy",
        PULLED,
        Trouble::OneWay(Source, Destination),
    ),
    direct(
        "destination-source",
        "nothing the destination sends arrives at the source, in the copy",
        PULLED,
        Trouble::OneWay(Destination, Source),
    ),
    direct(
        "source-coordinator",
        "nothing the source sends arrives at the coordinator, from the freeze on",
        FROZEN,
        Trouble::OneWay(Source, Coordinator),
    ),
    direct(
        "coordinator-source",
        "nothing the coordinator sends arrives at the source, from Staged on",
        STAGED,
        Trouble::OneWay(Coordinator, Source),
    ),
    direct(
        "destination-coordinator",
        "nothing the destination sends arrives at the coordinator, from Adopted on",
        ADOPTED,
        Trouble::OneWay(Destination, Coordinator),
    ),
    direct(
        "coordinator-destination",
        "nothing the coordinator sends arrives at the destination, from the freeze on",
        FROZEN,
        Trouble::OneWay(Coordinator, Destination),
    ),
    direct("gone", "the destination's machine is gone in the copy and comes back", PULLED, Trouble::Gone),
    direct("cut-consented", "the destination is cut off after consent", CONSENTED, Trouble::Cut(Destination)),
    direct("cut-copy", "the source is cut off in the copy", PULLED, Trouble::Cut(Source)),
    direct("cut-frozen", "the coordinator is cut off after the freeze", FROZEN, Trouble::Cut(Coordinator)),
    direct(
        "cut-staged",
        "the destination is cut off after it signed Staged",
        STAGED,
        Trouble::Cut(Destination),
    ),
    direct("cut-adopted", "the source is cut off after Adopted", ADOPTED, Trouble::Cut(Source)),
    direct("cut-rekeyed", "the destination is cut off after Rekeyed", REKEYED, Trouble::Cut(Destination)),
    direct("cut-shredded", "the source is cut off after the erasure", SHREDDED, Trouble::Cut(Source)),
    direct(
        "alone",
        "the destination is cut off exactly between Released and Adopted",
        RELEASED,
        Trouble::Alone,
    ),
    direct(
        "apart",
        "the regions are cut from each other exactly there; the coordinator reaches both",
        RELEASED,
        Trouble::Apart,
    ),
    direct("withdrawn", "the destination is cut off and the client withdraws", PULLED, Trouble::Withdrawn),
];

/// Lets a time pass: it is how long the trouble lasts, nothing is waited for.
async fn lasts(long: Duration) {
    tokio::time::timeout(long, std::future::pending::<()>()).await.ok();
}

/// Runs a scene on a stage: one transfer of its record, asked everything that a cell of the kill matrix is asked.
///
/// # Errors
/// With what did not hold.
pub async fn run(stage: &mut Stage, scene: &Scene) -> Outcome<Seen> {
    stage.through(scene.lines).await?;
    let before = Before::look(&stage.arena).await?;
    let known: BTreeSet<String> = stage.arena.written.0.keys().cloned().collect();
    let (from, to, patient) = (stage.arena.from(), stage.arena.to(), stage.arena.patient().await?);
    let databases = [stage.arena.database(from)?.clone(), stage.arena.database(to)?.clone()];
    let (over, ended) = watch::channel(false);
    let treating = [stage.arena.practitioner(from)?, stage.arena.practitioner(to)?];
    let subject = stage.arena.subject().to_owned();
    let writing = tokio::spawn(write_on(treating, subject.clone(), known.len(), ended.clone()));
    let looking = tokio::spawn(one_home(databases.clone(), subject, ended));
    let went = goes(stage, scene, &patient, &databases).await;
    stage.weather.late(Duration::ZERO);
    over.send_replace(true);
    let Went { transfer, lasted, rested, end, besides } = went?;
    let (wrote, looks) = (writing.await??, looking.await??);
    if end != scene.end() {
        return Err(format!("it ends {}", end.as_str()).into());
    }
    if looks == 0 {
        return Err("nobody looked who is home".into());
    }
    stage.arena.written.0.extend(wrote.written.0);
    let acknowledged: BTreeSet<String> =
        stage.arena.written.0.keys().filter(|item| !known.contains(*item)).cloned().collect();
    settled(&stage.arena, &transfer, end, &before, &acknowledged).await?;
    if end == End::Closed {
        stage.arena.moved();
    }
    stage.arena.read_back().await?;
    stage.arena.world.verify(REGIONS, &transfer).await?;
    let freezes = steps(&databases[0], &transfer, "frozen").await?;
    let acknowledged = acknowledged.len();
    Ok(Seen { lasted, rested, end, freezes, acknowledged, longest: wrote.longest, besides })
}

/// What a transfer went through.
struct Went {
    transfer: String,
    lasted: Duration,
    rested: Duration,
    end: End,
    besides: String,
}

async fn goes(
    stage: &mut Stage,
    scene: &Scene,
    patient: &Patient,
    databases: &[Database; 2],
) -> Outcome<Went> {
    let process = stage.arena.process(scene.at.0);
    let steering = stage.arena.steering(process).ok_or("nobody steers this process")?.clone();
    let moving = journey::ask(patient, stage.arena.to()).await?;
    steering.order(&[scene.at.1])?;
    // Where the consent itself is where a process stands, its answer comes later.
    let consenting = tokio::spawn({
        let (patient, offered) =
            (patient.clone(), Moving { id: moving.id.clone(), offer: moving.offer.clone() });
        async move { journey::consent(&patient, &offered).await }
    });
    steering.reached(PATIENCE).await.ok_or("the point is not reached")?;
    let mut playing = Playing { stage, patient, moving: &moving, databases, process };
    let (lasted, besides) = playing.plays(scene.trouble).await?;
    let healed = Instant::now();
    consenting.await??;
    let end = rest(databases, &moving.id).await?;
    let rested = healed.elapsed();
    steering.recall()?;
    Ok(Went { transfer: moving.id, lasted, rested, end, besides })
}

/// How many statements of a step there are.
async fn steps(database: &Database, transfer: &str, step: &str) -> Outcome<usize> {
    let sql = format!("SELECT COUNT(*) FROM statement WHERE transfer_id = @{transfer}@ AND step = '{step}'");
    Ok(database.ask(&sql).await?.concat().parse()?)
}

/// The trouble of a scene, while a process stands at its point.
struct Playing<'a> {
    stage: &'a mut Stage,
    patient: &'a Patient,
    moving: &'a Moving,
    databases: &'a [Database; 2],
    process: &'static str,
}

impl Playing<'_> {
    /// How long it lasted, and what there is to say of it.
    async fn plays(&mut self, trouble: Trouble) -> Outcome<(Duration, String)> {
        let began = Instant::now();
        let (to, from) = (self.stage.arena.to(), self.stage.arena.from());
        let besides = match trouble {
            Trouble::Late => {
                self.stage.weather.late(LATE);
                self.go_on().await?;
                return Ok((Duration::ZERO, String::new()));
            }
            Trouble::TooLate => self.too_late().await?,
            Trouble::Still(long) => self.still(long).await?,
            Trouble::Forgotten => {
                self.stage.weather.forget();
                self.go_on().await?;
                return Ok((Duration::ZERO, String::new()));
            }
            Trouble::OneWay(one, other) => {
                let (one, other) = (self.stage.arena.process(one), self.stage.arena.process(other));
                self.severed(&[(one, other)], LONG).await?
            }
            Trouble::Cut(one) => {
                let one = self.stage.arena.process(one);
                let others: Vec<&str> =
                    [from, to, "coordinator"].into_iter().filter(|other| *other != one).collect();
                self.severed(&both_ways(one, &others), SHORT).await?
            }
            Trouble::Gone => self.gone().await?,
            Trouble::Alone => self.between(&both_ways(to, &[from, "coordinator"])).await?,
            Trouble::Apart => self.between(&both_ways(to, &[from])).await?,
            Trouble::Withdrawn => self.withdrawn(&both_ways(to, &[from, "coordinator"])).await?,
        };
        Ok((began.elapsed(), besides))
    }

    async fn go_on(&self) -> Outcome<()> {
        let steering = self.stage.arena.steering(self.process).ok_or("nobody steers this process")?;
        if steering.release().await { Ok(()) } else { Err("nobody stands at the point".into()) }
    }

    async fn too_late(&mut self) -> Outcome<String> {
        self.stage.weather.late(TOO_LATE);
        self.go_on().await?;
        let until = Instant::now() + PATIENCE * 2;
        while steps(&self.databases[0], &self.moving.id, "unfrozen").await? < THAWS {
            if Instant::now() > until {
                return Err("the record is not thawed twice".into());
            }
            pause().await;
        }
        self.stage.weather.late(Duration::ZERO);
        Ok(String::new())
    }

    async fn still(&mut self, long: Duration) -> Outcome<String> {
        self.stage.weather.still(true);
        self.go_on().await?;
        let began = Instant::now();
        // A record that is frozen is thawed by its source alone.
        self.write().await?;
        let took = began.elapsed();
        if took >= long {
            return Err(format!("the record is frozen for {} s", took.as_secs()).into());
        }
        lasts(long.saturating_sub(took)).await;
        self.stage.weather.still(false);
        Ok(format!("writable {:.1} s into it", took.as_secs_f64()))
    }

    /// A note of nobody's record but this one's.
    fn request(&self, text: &str) -> PutItemRequest {
        PutItemRequest {
            subject_id: self.stage.arena.subject().to_owned(),
            idempotency_key: World::key(),
            draft: Some(note(text)),
        }
    }

    /// One write of the practitioner's, repeated until it is acknowledged.
    async fn write(&mut self) -> Outcome<()> {
        let arena = &self.stage.arena;
        let (client, text) = (arena.practitioner(arena.from())?, "while lines stand still");
        let request = self.request(text);
        let item = journey::insist(|| journey::put(&client, request.clone())).await?;
        self.stage.arena.written.0.insert(item, text.to_owned());
        Ok(())
    }

    async fn severed(&mut self, pairs: &[(&str, &str)], long: Duration) -> Outcome<String> {
        self.stage.cut(pairs).await?;
        self.go_on().await?;
        lasts(long).await;
        self.stage.heal(pairs).await?;
        Ok(String::new())
    }

    /// For a minute after Released: who is asked answers truthfully, and nobody takes a write.
    async fn between(&mut self, pairs: &[(&str, &str)]) -> Outcome<String> {
        self.stage.cut(pairs).await?;
        self.go_on().await?;
        let began = Instant::now();
        lasts(SHORT).await;
        let said = self.truthful().await?;
        lasts(MINUTE.saturating_sub(began.elapsed())).await;
        // The source serves no longer than it may, and nobody else does.
        let again = self.truthful().await?;
        self.stage.heal(pairs).await?;
        Ok(if said == again { said } else { format!("{said}; at the end {again}") })
    }

    async fn truthful(&self) -> Outcome<String> {
        let arena = &self.stage.arena;
        let mut said = Vec::new();
        for (who, region) in [("source", arena.from()), ("destination", arena.to())] {
            match journey::put(&arena.practitioner(region)?, self.request("nowhere")).await {
                Ok(_) => return Err(format!("I1: the {who} takes a write before Adopted").into()),
                Err(error) => said.push(format!("{who} {}", error.code().as_str())),
            }
        }
        let request = GetTransferRequest { transfer_id: self.moving.id.clone() };
        let told = answer(self.patient.client.transfers().get_transfer(request)).await?;
        let state = told.transfer.unwrap_or_default().state();
        if state != TransferState::Released {
            return Err(format!("the source says {}", state.as_str_name()).into());
        }
        if journey::withdraw(self.patient, self.moving).await? {
            return Err("I5: withdrawn after Released".into());
        }
        Ok(said.join(", "))
    }

    async fn gone(&mut self) -> Outcome<String> {
        let (from, to) = (self.stage.arena.from(), self.stage.arena.to());
        // The others' packets go nowhere; it sends none.
        let silenced = [(from, to), ("coordinator", to)];
        self.stage.cut(&both_ways(to, &[from, "coordinator"])).await?;
        self.stage.arena.world.kill(to).await?;
        self.stage.spaces()?.close(to).await?;
        lasts(LONG).await;
        self.stage.spaces()?.open(to).await?;
        self.stage.heal(&silenced).await?;
        self.stage.arena.world.begin(to)?;
        self.stage.arena.world.serving(to).await?;
        Ok(String::new())
    }

    async fn withdrawn(&mut self, pairs: &[(&str, &str)]) -> Outcome<String> {
        self.stage.cut(pairs).await?;
        self.go_on().await?;
        let began = Instant::now();
        if !journey::withdraw(self.patient, self.moving).await? {
            return Err("too late to withdraw".into());
        }
        let took = began.elapsed();
        // Its home is as it was, whoever is cut off.
        notes(&self.stage.arena.practitioner(self.stage.arena.from())?, self.stage.arena.subject()).await?;
        self.write().await?;
        lasts(SHORT.saturating_sub(began.elapsed())).await;
        self.stage.heal(pairs).await?;
        Ok(format!("acknowledged after {} ms", took.as_millis()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_points_are_of_the_matrix() {
        use crate::kill::points::{Path, points};
        let names: BTreeSet<&str> = SCENES.iter().map(|scene| scene.name).collect();
        assert_eq!(names.len(), SCENES.len());
        for scene in SCENES {
            let (role, point) = scene.at;
            assert!(points(role, Path::Move).iter().any(|known| known == point), "{}", scene.name);
        }
    }

    #[test]
    fn every_pair_is_cut_in_each_direction() {
        let cut = |one, other| SCENES.iter().any(|scene| scene.trouble == Trouble::OneWay(one, other));
        for one in Role::ALL {
            assert!(Role::ALL.into_iter().filter(|other| *other != one).all(|other| cut(one, other)));
        }
    }
}
