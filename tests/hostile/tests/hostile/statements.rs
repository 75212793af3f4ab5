//! Every byte of every statement, and statements in every wrong place.

use domicile_evidence::keys::{PublicKey, Signer as _};
use domicile_evidence::statement::SignedStatement;
use domicile_hostile::damage::{Tally, every};
use domicile_hostile::story::{By, Key, Story, Told, sign};
use domicile_hostile::world::known;
use domicile_proto::transfer::v1 as pb;
use domicile_transfer::arriving::read_statement;
use domicile_types::{Code, Error, RegionId, Result, TransferId};
use prost::Message as _;

use crate::print;

const INVALID: &[Code] = &[Code::StatementInvalid];
/// A message that is none is refused before anybody reads it.
const ON_THE_WIRE: &[Code] = &[Code::StatementInvalid, Code::InvalidRequest];

fn stories() -> [Story; 2] {
    [Story::closed(1, 3), Story::aborted(2, 3)]
}

fn key(story: &Story, told: &Told) -> PublicKey {
    match told.by {
        By::Source => story.from.public(),
        By::Destination => story.to.public(),
    }
}

fn name(told: &Told) -> String {
    let by = if told.by == By::Source { "source" } else { "destination" };
    format!("statement {} ({by})", told.body.step().name())
}

/// As it comes in a message.
fn read(bytes: &[u8]) -> Result<SignedStatement> {
    let message = pb::SignedStatement::decode(bytes).map_err(|_| Error::new(Code::InvalidRequest))?;
    read_statement(&message)
}

fn wire(signed: &SignedStatement) -> Vec<u8> {
    let (statement, body) = (signed.statement.clone().into(), signed.body.clone().into());
    pb::SignedStatement { statement, body, signature: signed.signature.to_vec().into() }.encode_to_vec()
}

#[test]
fn every_byte_of_every_statement() {
    let mut tally = Tally::default();
    let mut steps = std::collections::BTreeSet::new();
    for story in stories() {
        for told in &story.told {
            let key = key(&story, told);
            assert!(told.take_in(&key, told.signed.clone()).unwrap(), "{} is taken in", name(told));
            if !steps.insert((told.body.step(), told.by == By::Source)) {
                continue;
            }
            every(&wire(&told.signed), |how, wrong| {
                let answer = read(&wrong).and_then(|signed| told.take_in(&key, signed));
                tally.refused(&name(told), how, answer, ON_THE_WIRE);
            });
        }
    }
    assert_eq!(steps.len(), 14, "every step there is; Preflighted by both");
    print(&tally, 10_000);
}

/// A region whose key signs what is wrong: the encodings and the digest must hold by themselves.
#[test]
fn every_byte_of_what_is_signed_wrongly() {
    let mut tally = Tally::default();
    for story in stories() {
        for told in &story.told {
            let (signer, key) = match told.by {
                By::Source => (&story.from, story.from.public()),
                By::Destination => (&story.to, story.to.public()),
            };
            every(&told.signed.body, |how, body| {
                let wrong = SignedStatement { body, ..told.signed.clone() };
                tally.refused("body under a signed statement", how, told.take_in(&key, wrong), INVALID);
            });
            every(&told.signed.statement, |how, statement| {
                let signature = domicile_evidence::keys::Signer::sign(signer, &statement);
                let wrong = SignedStatement { signature, statement, body: told.signed.body.clone() };
                // Its time, and in the first one its attempt, are the region's own word.
                let own_word = wrong.read().ok().is_some_and(|read| {
                    let (mut read, own) = (read.statement, told.signed.read().unwrap().statement);
                    read.at = own.at;
                    if told.destination.is_none() {
                        read.attempt = own.attempt;
                    }
                    read == own
                });
                let answer = told.take_in(&key, wrong);
                if !own_word {
                    let codes = &[Code::StatementInvalid, Code::AttemptStale];
                    tally.refused("statement signed with a wrong byte", how, answer, codes);
                }
            });
        }
    }
    print(&tally, 10_000);
}

/// Every statement in the place of every other, with its own body or the other's.
#[test]
fn every_statement_in_the_place_of_every_other() {
    let mut tally = Tally::default();
    for story in stories() {
        for (at, told) in story.told.iter().enumerate() {
            for (other_at, other) in story.told.iter().enumerate().filter(|(other, _)| *other != at) {
                let mixed = SignedStatement { body: other.signed.body.clone(), ..told.signed.clone() };
                // Two of one step may say the same.
                if other.signed.body != told.signed.body {
                    tally.refused(
                        "another step's body",
                        "swapped",
                        told.take_in(&key(&story, told), mixed),
                        INVALID,
                    );
                }
                let answer = told.take_in(&key(&story, told), other.signed.clone());
                if other_at < at && other.by == told.by {
                    assert!(!answer.unwrap(), "one that is known changes nothing");
                } else {
                    tally.refused("another step's statement", "swapped", answer, INVALID);
                }
            }
        }
    }
    print(&tally, 300);
}

#[test]
fn statements_of_somewhere_else() {
    let mut tally = Tally::default();
    let stranger = Key::new(&known(99));
    let others =
        [("another transfer", Story::closed(3, 3)), ("another transfer and attempt", Story::closed(4, 2))];
    for story in stories() {
        for (at, told) in story.told.iter().enumerate() {
            let own = key(&story, told);
            tally.refused(
                "signed by nobody known",
                "forged",
                told.take_in(&stranger.public(), told.signed.clone()),
                INVALID,
            );
            for (what, other) in &others {
                let Some(theirs) = other.told.get(at) else { continue };
                tally.refused(what, "replayed", told.take_in(&own, theirs.signed.clone()), INVALID);
                // Even where one region has signed both.
                let answer = told.take_in(&key(other, theirs), theirs.signed.clone());
                tally.refused(what, "replayed", answer, INVALID);
            }
            for (what, of) in elsewhere(told) {
                let (signer, lanes) = match told.by {
                    By::Source => (&story.from, before(&told.source.lanes, &told.signed)),
                    By::Destination => {
                        (&story.to, before(&told.destination.as_ref().unwrap().lanes, &told.signed))
                    }
                };
                let wrong = sign(signer, of, &lanes, &told.body);
                let codes = &[Code::StatementInvalid, Code::AttemptStale];
                // A first statement makes its attempt known: there is none before it.
                if told.destination.is_some() || what != "of another attempt" {
                    tally.refused(what, "signed by the right region", told.take_in(&own, wrong), codes);
                }
            }
        }
    }
    print(&tally, 100);
}

/// The lanes as they were before the statement was signed: a fork of it follows the same ones.
fn before(
    lanes: &domicile_transfer_protocol::Lanes,
    signed: &SignedStatement,
) -> domicile_transfer_protocol::Lanes {
    let statement = signed.read().unwrap().statement;
    let mut value = serde_json::to_value(lanes).unwrap();
    let own = value["own"].as_array_mut().unwrap();
    own.truncate(usize::try_from(statement.sequence - 1).unwrap());
    serde_json::from_value(value).unwrap()
}

fn elsewhere(told: &Told) -> Vec<(&'static str, (TransferId, u64, RegionId))> {
    let statement = told.signed.read().unwrap().statement;
    let (transfer, attempt, origin) = (statement.transfer, statement.attempt, statement.origin);
    let other = if told.by == By::Source { told.source.to.clone() } else { told.source.from.clone() };
    vec![
        ("of another transfer", (TransferId::generate(&known(50)), attempt, origin.clone())),
        ("of another attempt", (transfer, attempt + 1, origin)),
        ("of the other region", (transfer, attempt, other)),
    ]
}
