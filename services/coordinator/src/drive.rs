//! Driving one transfer: look, decide, ask; until it rests or another coordinator has it.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use domicile_proto::transfer::v1 as pb;
use domicile_transfer_protocol::State;
use domicile_transfer_protocol::plan::{self, Ask, Next, Side, Wait};
use domicile_types::{Code, Error, RegionId, Result, Timestamp, TransferId};
use tokio::sync::Notify;
use tokio::time::Instant;
use tracing::Instrument as _;

use crate::Coordinator;
use crate::regions::{RegionView, peer_error, read_view};

/// The pause after a region refused or did not answer; doubles to at most [`SLOWEST`].
const PAUSE: Duration = Duration::from_millis(100);
/// The longest pause after refusals.
const SLOWEST: Duration = Duration::from_secs(5);
/// The longest pause between two questions whether a blocked transfer still is.
const RARELY: Duration = Duration::from_secs(30);

/// Both regions' views of a transfer.
struct Both {
    source: RegionView,
    destination: Option<RegionView>,
}

/// What a region answered to a step: how it stands then, and its statements.
struct Answer {
    by: Side,
    both: Both,
    statements: Vec<pb::SignedStatement>,
}

impl Answer {
    /// The other region's step that follows, where every look is time in which the record cannot be written:
    /// from the freeze until the destination has adopted. Elsewhere, and wherever this region would be asked
    /// again, both are looked at anew. A region that has changed meanwhile refuses the step.
    fn next(&self, now: Timestamp) -> Option<Next> {
        let hurried = matches!(self.both.source.plan.state, State::Frozen | State::Staged | State::Released);
        let there = self.both.destination.as_ref().map(|view| &view.plan);
        match plan::next(&self.both.source.plan, there, now) {
            next @ Next::Call { to, .. } if hurried && to != self.by => Some(next),
            _ => None,
        }
    }
}

/// Of a region's last statements, the newest of which has the number `own`, those past `held`; `None` when
/// older ones are needed too.
fn past(held: u64, own: u64, last: &[pb::SignedStatement]) -> Option<Vec<pb::SignedStatement>> {
    let before = own.checked_sub(last.len() as u64)?;
    let known = usize::try_from(held.checked_sub(before)?).ok()?;
    last.get(known..).filter(|lacking| !lacking.is_empty()).map(<[_]>::to_vec)
}

/// What has been heard and told of why a region cannot advance, so that each is told once.
#[derive(Default)]
struct Causes {
    /// What the destination answered last when it was asked for a step.
    answered: Option<String>,
    /// What each region was told last: source, destination.
    told: [Option<String>; 2],
}

/// How often a blocked transfer's regions are asked again: each question stands in both audit logs.
#[derive(Clone, Copy)]
struct Asked {
    /// Not before this.
    again: Instant,
    /// And then so much later.
    wait: Duration,
}

impl Asked {
    fn first() -> Self {
        Self { again: Instant::now(), wait: PAUSE }
    }

    /// Whether it may be asked now; then the next time is twice as far away.
    fn may(&mut self, now: Instant) -> bool {
        if now < self.again {
            return false;
        }
        self.again = now + self.wait;
        self.wait = self.wait.saturating_mul(2).min(RARELY);
        true
    }
}

/// A lease as this process holds it.
struct Lease {
    token: u64,
    renew_at: Instant,
}

impl Coordinator {
    /// Drives a transfer that `region` has told of.
    pub(crate) async fn drive(&self, region: &RegionId, transfer: TransferId) {
        let notify = Arc::new(Notify::new());
        self.0.wakes.lock().unwrap_or_else(PoisonError::into_inner).insert(transfer, Arc::clone(&notify));
        let (mut lease, mut pause, mut causes) = (None, PAUSE, Causes::default());
        let mut preflight = Asked::first();
        let mut answer = None;
        loop {
            match self.turn((region, transfer), answer.take(), &mut lease, &mut causes, &mut preflight).await
            {
                Ok(Turn::Went(answered)) => {
                    pause = PAUSE;
                    answer = answered;
                }
                Ok(Turn::Waits) => {
                    pause = PAUSE;
                    // Whether woken or by the clock: look again.
                    drop(tokio::time::timeout(self.0.poll, notify.notified()).await);
                }
                Ok(Turn::Over) => return,
                Err(error) => {
                    tracing::debug!(%transfer, code = error.code().as_str(), place = error.place(), cause = ?error, "a step was not taken");
                    tokio::time::sleep(pause).await;
                    pause = pause.saturating_mul(2).min(SLOWEST);
                }
            }
        }
    }

    async fn turn(
        &self,
        (region, transfer): (&RegionId, TransferId),
        answer: Option<Box<Answer>>,
        lease: &mut Option<Lease>,
        causes: &mut Causes,
        preflight: &mut Asked,
    ) -> Result<Turn> {
        let now = self.0.ctx.now();
        let follows = answer.and_then(|answer| answer.next(now).map(|next| (answer, next)));
        let (both, next, brought) = match follows {
            Some((answer, next)) => {
                let Answer { both, statements, .. } = *answer;
                (both, next, statements)
            }
            None => {
                let Some(both) = self.both(region, transfer).await? else {
                    return Ok(Turn::Over);
                };
                let there = both.destination.as_ref().map(|view| &view.plan);
                let next = plan::next(&both.source.plan, there, self.0.ctx.now());
                (both, next, Vec::new())
            }
        };
        self.note_transfer(transfer, &both.source, both.destination.as_ref(), next);
        self.tell(transfer, &both, lease, causes).await?;
        match next {
            Next::Wait(Wait::Rest) => Ok(Turn::Over),
            Next::Wait(_) => Ok(Turn::Waits),
            Next::Call { ask: Ask::Preflight, .. } if !preflight.may(Instant::now()) => Ok(Turn::Waits),
            Next::Call { to, ask } => {
                let Some(token) = self.token(&both.source.source, transfer, lease).await? else {
                    return Ok(Turn::Waits);
                };
                let span = domicile_telemetry::trace::transfer(step(ask).as_str_name(), transfer);
                let called = self.call(transfer, &both, (to, ask), token, &brought).instrument(span).await;
                causes.hear(to, ask, &called);
                Ok(Turn::Went(answered(both, to, called?)?))
            }
        }
    }

    /// Tells a region that waits for the other one why that one cannot advance.
    async fn tell(
        &self,
        transfer: TransferId,
        both: &Both,
        lease: &mut Option<Lease>,
        causes: &mut Causes,
    ) -> Result<()> {
        let regions = [&both.source.source, &both.source.destination];
        for ((cause, told), region) in causes.of(both).into_iter().zip(&mut causes.told).zip(regions) {
            let Some(cause) = cause.filter(|cause| told.as_ref() != Some(cause)) else {
                continue;
            };
            let Some(token) = self.token(&both.source.source, transfer, lease).await? else {
                return Ok(());
            };
            let request = pb::AdvanceRequest {
                transfer_id: transfer.to_string(),
                attempt: both.source.attempt,
                token,
                step: step(Ask::Deliver).into(),
                cause: cause.clone(),
                ..pb::AdvanceRequest::default()
            };
            let answer = self.0.regions.control(region)?.advance(request).await;
            answer.map_err(|status| peer_error(&status))?;
            *told = Some(cause);
        }
        Ok(())
    }

    /// Both views, whichever region told of the transfer; `None` when no region knows it.
    async fn both(&self, region: &RegionId, transfer: TransferId) -> Result<Option<Both>> {
        let Some(told) = self.0.regions.view(region, transfer).await? else {
            return Ok(None);
        };
        let (source, destination) = (told.source.clone(), told.destination.clone());
        if *region == source {
            let destination = match self.0.regions.view(&destination, transfer).await {
                // A destination that does not answer stops nothing that the source can do alone.
                Err(error) if error.code() == Code::PeerSilent => None,
                other => other?,
            };
            return Ok(Some(Both { source: told, destination }));
        }
        let source = self.0.regions.view(&source, transfer).await?;
        let source = source.ok_or_else(|| Error::new(Code::NotFound).at("source"))?;
        Ok(Some(Both { source, destination: Some(told) }))
    }

    /// The fencing token, renewed when a third of the lease is over; `None` when another drives.
    async fn token(
        &self,
        source: &RegionId,
        transfer: TransferId,
        lease: &mut Option<Lease>,
    ) -> Result<Option<u64>> {
        if let Some(held) = lease.as_ref().filter(|held| held.renew_at > Instant::now()) {
            return Ok(Some(held.token));
        }
        let request =
            pb::TakeLeaseRequest { transfer_id: transfer.to_string(), holder: self.0.holder.to_string() };
        self.0.ctx.faults.before("ask.lease");
        let answer = self.0.regions.control(source)?.take_lease(request).await;
        self.0.ctx.faults.after("ask.lease");
        let answer = answer.map_err(|status| peer_error(&status))?.into_inner();
        if answer.token == 0 {
            *lease = None;
            return Ok(None);
        }
        let lasts = Duration::from_millis(answer.lasts_ms.into());
        *lease = Some(Lease { token: answer.token, renew_at: Instant::now() + lasts / 3 });
        Ok(Some(answer.token))
    }

    /// Brings a region the other side's statements it lacks, `brought` or fetched, and asks it for a step, in one
    /// call; what it signs goes straight on to the other region with its next step.
    async fn call(
        &self,
        transfer: TransferId,
        both: &Both,
        (to, ask): (Side, Ask),
        token: u64,
        brought: &[pb::SignedStatement],
    ) -> Result<pb::AdvanceResponse> {
        let regions = &self.0.regions;
        let (region, from, held) = match to {
            Side::Source => (&both.source.source, &both.source.destination, both.source.plan.peer_sequence),
            Side::Destination => {
                let held = both.destination.as_ref().map_or(0, |view| view.plan.peer_sequence);
                (&both.source.destination, &both.source.source, held)
            }
        };
        let signed = match to {
            Side::Source => both.destination.as_ref().map_or(0, |view| view.plan.own_sequence),
            Side::Destination => both.source.plan.own_sequence,
        };
        let statements = match past(held, signed, brought) {
            _ if signed <= held => Vec::new(),
            Some(lacking) => lacking,
            None => self.statements(from, transfer, held).await?,
        };
        let peer_proof = if ask == Ask::Close { Some(self.proof(from, transfer).await?) } else { None };
        let request = pb::AdvanceRequest {
            transfer_id: transfer.to_string(),
            attempt: both.source.attempt,
            token,
            statements,
            step: step(ask).into(),
            peer_proof,
            cause: String::new(),
        };
        tracing::debug!(%transfer, %region, ?ask, "asks");
        self.0.ctx.faults.before(effect(ask));
        let answer = regions.control(region)?.advance(request).await.map_err(|status| peer_error(&status))?;
        self.0.ctx.faults.after(effect(ask));
        Ok(answer.into_inner())
    }

    async fn statements(
        &self,
        from: &RegionId,
        transfer: TransferId,
        after: u64,
    ) -> Result<Vec<pb::SignedStatement>> {
        let request = pb::GetStatementsRequest { transfer_id: transfer.to_string(), after };
        let answer = self.0.regions.control(from)?.get_statements(request).await;
        Ok(answer.map_err(|status| peer_error(&status))?.into_inner().statements)
    }

    async fn proof(&self, from: &RegionId, transfer: TransferId) -> Result<pb::ClosingProof> {
        let request = pb::GetClosingProofRequest { transfer_id: transfer.to_string() };
        let answer = self.0.regions.control(from)?.get_closing_proof(request).await;
        let proof = answer.map_err(|status| peer_error(&status))?.into_inner().proof;
        proof.ok_or_else(|| Error::new(Code::NotFound).at("closing proof"))
    }
}

impl Causes {
    /// Notes what the destination answered, or that it did what it was asked for. For its proof of closing it
    /// is asked when the source closes. That it is silent each region finds out by itself.
    fn hear<T>(&mut self, to: Side, ask: Ask, called: &Result<T>) {
        match called {
            Err(error) if to == Side::Destination || ask == Ask::Close => {
                let code = error.code();
                self.answered = Some(code.as_str().to_owned()).filter(|_| code != Code::PeerSilent);
            }
            Ok(_) if to == Side::Destination => self.answered = None,
            _ => {}
        }
    }

    /// What source and destination are to be told of the other one, when it has said why it cannot advance.
    fn of(&self, both: &Both) -> [Option<String>; 2] {
        let (here, there) = (&both.source.plan, both.destination.as_ref().map(|view| &view.plan));
        let said = || there.and_then(|there| there.refused.clone()).or_else(|| self.answered.clone());
        match here.state {
            State::Released | State::Adopted => [said(), None],
            State::Rekeyed => [None, here.refused.clone().filter(|_| there.is_some())],
            State::Shredded => [self.answered.clone(), here.refused.clone().filter(|_| there.is_some())],
            _ => [None, None],
        }
    }
}

/// Both regions as they stand after one of them has answered; `None` when it does not show itself.
fn answered(mut both: Both, by: Side, answer: pb::AdvanceResponse) -> Result<Option<Box<Answer>>> {
    let Some(view) = answer.view.as_ref().map(read_view).transpose()? else {
        return Ok(None);
    };
    match by {
        Side::Source => both.source = view,
        Side::Destination => both.destination = Some(view),
    }
    Ok(Some(Box::new(Answer { by, both, statements: answer.statements })))
}

enum Turn {
    Went(Option<Box<Answer>>),
    Waits,
    Over,
}

const fn step(ask: Ask) -> pb::Step {
    match ask {
        Ask::Deliver => pb::Step::Unspecified,
        Ask::Preflight => pb::Step::Preflight,
        Ask::Prepare => pb::Step::Prepare,
        Ask::OpenCopy => pb::Step::OpenCopy,
        Ask::Pull => pb::Step::Pull,
        Ask::Freeze => pb::Step::Freeze,
        Ask::Stage => pb::Step::Stage,
        Ask::Release => pb::Step::Release,
        Ask::Adopt => pb::Step::Adopt,
        Ask::Rekey => pb::Step::Rekey,
        Ask::Shred => pb::Step::Shred,
        Ask::Close => pb::Step::Close,
        Ask::Abort => pb::Step::Abort,
        Ask::Purge => pb::Step::Purge,
    }
}

/// The name of the points around asking for a step.
const fn effect(ask: Ask) -> &'static str {
    match ask {
        Ask::Deliver => "ask.deliver",
        Ask::Preflight => "ask.preflight",
        Ask::Prepare => "ask.prepare",
        Ask::OpenCopy => "ask.open_copy",
        Ask::Pull => "ask.pull",
        Ask::Freeze => "ask.freeze",
        Ask::Stage => "ask.stage",
        Ask::Release => "ask.release",
        Ask::Adopt => "ask.adopt",
        Ask::Rekey => "ask.rekey",
        Ask::Shred => "ask.shred",
        Ask::Close => "ask.close",
        Ask::Abort => "ask.abort",
        Ask::Purge => "ask.purge",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signed(number: u8) -> pb::SignedStatement {
        pb::SignedStatement { statement: vec![number].into(), ..pb::SignedStatement::default() }
    }

    /// The numbers of what goes on when a region that has signed five statements has brought these.
    fn goes_on(held: u64, brought: &[u8]) -> Option<Vec<u8>> {
        let last: Vec<_> = brought.iter().copied().map(signed).collect();
        let lacking = past(held, 5, &last)?;
        Some(lacking.iter().flat_map(|one| one.statement.to_vec()).collect())
    }

    #[test]
    fn of_what_a_region_brought_goes_on_what_the_other_lacks() {
        assert_eq!(goes_on(2, &[3, 4, 5]), Some(vec![3, 4, 5]));
        assert_eq!(goes_on(4, &[3, 4, 5]), Some(vec![5]));
        // Older ones are needed too, none is, nothing was brought, or more than there are.
        assert_eq!(goes_on(1, &[3, 4, 5]), None);
        assert_eq!(goes_on(5, &[3, 4, 5]), None);
        assert_eq!(goes_on(4, &[]), None);
        assert_eq!(goes_on(0, &[0, 1, 2, 3, 4, 5]), None);
    }

    #[test]
    fn a_blocked_transfer_is_asked_about_ever_more_rarely() {
        let mut asked = Asked::first();
        let (begun, mut times) = (Instant::now(), 0_u32);
        for second in 0..7 * 24 * 3600_u64 {
            times += u32::from(asked.may(begun + Duration::from_secs(second)));
        }
        // Twice a minute over the week in which an offer is open, and not at each look.
        assert!((20_000..20_400).contains(&times), "{times}");
    }
}
