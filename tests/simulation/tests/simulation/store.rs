//! The suite's programs on the store in memory: they reach what they are meant to reach. That the stores on
//! SQL answer the same words stands with their own tests.

use domicile_simulation::conformance::{memory_pair, program, straight_move, withdrawn_move};

#[tokio::test]
async fn a_straight_move_ends_closed_and_a_withdrawn_one_aborted() {
    let words = straight_move(&memory_pair().unwrap()).await.unwrap();
    let last = words.iter().rev().find(|line| line.starts_with("close")).unwrap();
    assert!(last.contains("\"state\":\"closed\""), "{last}");
    let words = withdrawn_move(&memory_pair().unwrap()).await.unwrap();
    assert!(words.iter().any(|line| line.contains("\"state\":\"aborted\"")));
}

/// The same program leaves the same words: what differs on SQL differs by the store.
#[tokio::test]
async fn a_program_is_decided_by_its_seed() {
    for seed in 0..3 {
        let one = program(&memory_pair().unwrap(), seed, 120).await.unwrap();
        assert_eq!(one, program(&memory_pair().unwrap(), seed, 120).await.unwrap());
    }
}

/// Random programs get far enough for every step to be compared.
#[tokio::test]
async fn random_programs_reach_every_state() {
    let mut words = String::new();
    for seed in 0..40 {
        words.push_str(&program(&memory_pair().unwrap(), seed, 160).await.unwrap().join("\n"));
    }
    for state in domicile_transfer_protocol::State::ALL {
        assert!(words.contains(&format!("\"state\":\"{}\"", state.as_str())), "{state:?}");
    }
}
