//! A region restored from an older backup, alone. The product does not do this by itself yet
//! (`docs/transfer.md`, "Not there yet"); what is shown here is that the rule of the design keeps the record
//! safe with the functions as they are: a restored region serves nothing until the other one has shown that it
//! holds no more of its statements than the backup, and an attempt that has not completed is ended, not
//! continued. Where statements were lost the region stays closed and somebody has to look: no property says
//! that such a transfer ends.

use domicile_evidence::statement::AbortReason;
use domicile_transfer_protocol::Lanes;

use crate::bugs::Bug;
use crate::rows::{keep_saved, stated};
use crate::source_steps::Done;
use crate::world::{Home, Move, Tx};

/// A backup of one region's database and key store.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Saved {
    home: Home,
    of: Move,
}

impl Tx<'_> {
    /// A backup of the region that will be restored, of both stores at one instant.
    pub(crate) fn save(&mut self) -> Done {
        let region = self.bounds.restored?;
        self.world.saved =
            Some(keep_saved(Saved { home: self.world.homes[region], of: self.world.moves[0] }));
        Some(())
    }

    /// The region is restored from it: once. What the coordinator had read before, it still has.
    pub(crate) fn restore(&mut self) -> Done {
        let region = self.bounds.restored?;
        let saved = self.world.saved.take()?;
        if self.world.old.is_some() {
            return None;
        }
        self.crash(region);
        self.world.old = Some((self.world.moves[0].source, self.world.moves[0].there));
        self.world.homes[region] = Home { closed: !self.bounds.has(Bug::RestoredServes), ..saved.home };
        let (from, _) = self.bounds.leg(0);
        let (this, of) = (&mut self.world.moves[0], saved.of);
        if from == region {
            (this.source, this.consent, this.travel_key) = (of.source, of.consent, of.travel_key);
            (this.release, this.sent, this.logs[0]) = (of.release, of.sent, of.logs[0]);
            // The keys come back with the key store's backup.
            this.erased &= of.erased;
        } else {
            (this.there, this.private_key, this.travel_key_there) =
                (of.there, of.private_key, of.travel_key_there);
            (this.staged, this.logs[1]) = (of.staged, of.logs[1]);
        }
        // What was written after the backup and is nowhere else is lost by the backup, not by the move.
        self.world.acknowledged &= self.world.homes.iter().fold(0, |rows, home| rows | home.rows);
        Some(())
    }

    /// The other region has shown what it holds: the restored one opens, if nothing of its lane is lost.
    pub(crate) fn reopen(&mut self) -> Done {
        let region = self.bounds.restored.filter(|region| self.world.homes[*region].closed)?;
        let (from, _) = self.bounds.leg(0);
        let this = self.world.moves[0];
        let (source, there) = (this.source.map(|row| row.lanes()), this.there.map(|row| row.lanes()));
        let (own, peer) = if from == region { (source, there) } else { (there, source) };
        if !holds_no_more(own, peer) {
            return None;
        }
        self.home(region).closed = false;
        if from == region && source.is_some() {
            // Whatever had been decided since the backup, a withdrawal too: not continued.
            self.abort(0, AbortReason::Failed, None);
            self.clean_up(0);
        }
        Some(())
    }

    /// Brings a statement the coordinator had read before the restore.
    pub(crate) fn deliver_old(&mut self, to_source: bool) -> Done {
        let (from, to) = self.bounds.leg(0);
        if self.world.homes[if to_source { from } else { to }].closed {
            return None;
        }
        let (source, there) = self.world.old?;
        let lanes = if to_source { there.map(|row| row.lanes()) } else { source.map(|row| row.lanes()) }?;
        let this = self.world.moves[0];
        let held = if to_source {
            this.source?.lanes.peer_sequence()
        } else {
            this.there.map_or(0, |row| row.lanes.peer_sequence())
        };
        let received = stated(lanes, held + 1)?;
        if to_source { self.source_receives(0, received) } else { self.there_receives(0, received) }
    }

    /// Whether a region is closed that a transfer belongs to.
    pub(crate) fn closed(&self, index: usize) -> bool {
        let (from, to) = self.bounds.leg(index);
        self.world.homes[from].closed || self.world.homes[to].closed
    }
}

/// Whether the other region holds no more of a lane than its own region does, and the same.
fn holds_no_more(own: Option<&'static Lanes>, peer: Option<&'static Lanes>) -> bool {
    let Some(peer) = peer.filter(|peer| peer.peer_sequence() > 0) else { return true };
    let Some(own) = own else { return false };
    let same = stated(own, peer.peer_sequence()).map(|received| received.digest);
    same.is_some() && same == peer.peer_tip()
}
