//! Known answers of the standards, and other implementations as oracles.

#![expect(clippy::expect_used, reason = "a test says what it expected")]

mod common;

use common::TestKey;
use ct_merkle::mem_backed_tree::MemoryBackedTree;
use domicile_evidence::checkpoint::Checkpoint;
use domicile_evidence::keys::{Signer as _, VerifierKey};
use domicile_evidence::merkle::{
    Coordinate, Frontier, Hash, ProofPlan, empty_root, leaf_hash, verify_consistency, verify_inclusion,
};
use domicile_evidence::note::{Note, NoteSigner};
use sha2::Sha256;
use std::collections::BTreeMap;

/// A tree with its stored nodes.
#[derive(Default)]
struct Tree {
    frontier: Frontier,
    nodes: BTreeMap<Coordinate, Hash>,
    roots: Vec<Hash>,
}

impl Tree {
    fn of(leaves: impl IntoIterator<Item = Vec<u8>>) -> Self {
        let mut tree = Self { roots: vec![empty_root()], ..Self::default() };
        for leaf in leaves {
            for node in tree.frontier.append(leaf_hash(&leaf)).expect("room") {
                assert!(tree.nodes.insert(node.at, node.hash).is_none(), "a node is completed once");
            }
            tree.roots.push(tree.frontier.root());
        }
        tree
    }

    fn fetch(&self, coordinates: &[Coordinate]) -> Vec<Hash> {
        coordinates.iter().map(|at| self.nodes[at]).collect()
    }

    fn inclusion(&self, index: u64, size: u64) -> Vec<Hash> {
        let plan = ProofPlan::inclusion(index, size).expect("in the tree");
        plan.combine(&self.fetch(&plan.coordinates())).expect("all nodes")
    }

    fn consistency(&self, old: u64, size: u64) -> Vec<Hash> {
        let plan = ProofPlan::consistency(old, size).expect("a pair of sizes");
        plan.combine(&self.fetch(&plan.coordinates())).expect("all nodes")
    }

    fn root(&self, size: u64) -> Hash {
        self.roots[usize::try_from(size).expect("small")]
    }
}

fn numbered(count: u32) -> Tree {
    Tree::of((0..count).map(|number| number.to_be_bytes().to_vec()))
}

// The leaves and roots of the Certificate Transparency reference implementation of RFC 6962.
const LEAVES: [&str; 8] =
    ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"];
const ROOTS: [&str; 9] = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
];

#[test]
fn the_reference_roots_come_out() {
    let tree = Tree::of(LEAVES.iter().map(|leaf| hex::decode(leaf).expect("hex")));
    for (root, expected) in tree.roots.iter().zip(ROOTS) {
        assert_eq!(hex::encode(root), expected);
    }
}

#[test]
fn the_reference_inclusion_proofs_come_out() {
    let tree = Tree::of(LEAVES.iter().map(|leaf| hex::decode(leaf).expect("hex")));
    let proof: Vec<_> = tree.inclusion(0, 8).iter().map(hex::encode).collect();
    assert_eq!(
        proof,
        [
            "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
        ]
    );
}

#[test]
fn every_proof_of_every_small_tree_verifies_and_nothing_else_does() {
    let tree = numbered(40);
    for size in 1..=40_u64 {
        let root = tree.root(size);
        for index in 0..size {
            let proof = tree.inclusion(index, size);
            let leaf = tree.nodes[&Coordinate { level: 0, index }];
            verify_inclusion(&leaf, index, size, &proof, &root).expect("proves");
            verify_inclusion(&leaf, (index + 1) % size, size, &proof, &root).expect_err_unless(size == 1);
            for at in 0..proof.len() {
                let mut wrong = proof.clone();
                wrong[at][0] ^= 1;
                verify_inclusion(&leaf, index, size, &wrong, &root).expect_err("a flipped bit");
                wrong.remove(at);
                verify_inclusion(&leaf, index, size, &wrong, &root).expect_err("a missing hash");
            }
        }
        for old in 1..=size {
            let proof = tree.consistency(old, size);
            verify_consistency(old, &tree.root(old), size, &root, &proof).expect("proves");
            for at in 0..proof.len() {
                let mut wrong = proof.clone();
                wrong[at][31] ^= 0x80;
                verify_consistency(old, &tree.root(old), size, &root, &wrong).expect_err("a flipped bit");
            }
            if old < size {
                verify_consistency(old, &root, size, &root, &proof).expect_err("another old root");
            }
        }
    }
}

trait ExpectErrUnless {
    fn expect_err_unless(&self, fine: bool);
}

impl<E> ExpectErrUnless for Result<(), E> {
    fn expect_err_unless(&self, fine: bool) {
        assert!(fine || self.is_err(), "another place");
    }
}

#[test]
fn ct_merkle_makes_the_same_trees_and_proofs() {
    let mut theirs = MemoryBackedTree::<Sha256, Vec<u8>>::new();
    let ours = numbered(70);
    for size in 1..=70_u64 {
        theirs.push(u32::try_from(size - 1).expect("small").to_be_bytes().to_vec());
        assert_eq!(theirs.root().as_bytes().as_slice(), ours.root(size));
        for index in 0..size {
            let proof = theirs.prove_inclusion(usize::try_from(index).expect("small"));
            assert_eq!(proof.as_bytes(), ours.inclusion(index, size).concat(), "{index} of {size}");
        }
        for old in 1..size {
            let proof = theirs.prove_consistency(usize::try_from(size - old).expect("small"));
            let ours = ours.consistency(old, size);
            // ct-merkle leaves the old root out when it is a node of the new tree, as RFC 6962 does.
            assert_eq!(proof.as_bytes(), ours.concat(), "{old} of {size}");
        }
    }
}

struct Stored(Vec<tlog_tiles::tlog::Hash>);

impl tlog_tiles::tlog::HashReader for Stored {
    fn read_hashes(&self, indexes: &[u64]) -> Result<Vec<tlog_tiles::tlog::Hash>, tlog_tiles::tlog::Error> {
        Ok(indexes.iter().map(|index| self.0[usize::try_from(*index).expect("small")]).collect())
    }
}

#[test]
fn tlog_tiles_makes_the_same_trees_and_proofs() {
    let ours = numbered(70);
    let mut stored = Stored(Vec::new());
    for size in 1..=70_u64 {
        let leaf = u32::try_from(size - 1).expect("small").to_be_bytes();
        let new = tlog_tiles::tlog::stored_hashes(size - 1, &leaf, &stored).expect("stores");
        stored.0.extend(new);
        let root = tlog_tiles::tlog::tree_hash(size, &stored).expect("a root");
        assert_eq!(root.0, ours.root(size));
        for index in 0..size {
            let theirs = tlog_tiles::tlog::prove_record(size, index, &stored).expect("a proof");
            let theirs: Vec<Hash> = theirs.iter().map(|hash| hash.0).collect();
            assert_eq!(theirs, ours.inclusion(index, size), "{index} of {size}");
        }
        for old in 1..=size {
            let theirs = tlog_tiles::tlog::prove_tree(size, old, &stored).expect("a proof");
            let theirs: Vec<Hash> = theirs.iter().map(|hash| hash.0).collect();
            assert_eq!(theirs, ours.consistency(old, size), "{old} of {size}");
        }
    }
}

// The note of the Go reference implementation of signed notes.
const PETER: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
const ENOCH: &str = "EnochRoot+af0cfe78+ATtqJ7zOtqQtYqOo0CpvDXNlMhV3HeJDpjrASKGLWdop";
const TEXT: &str =
    "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n";
const BY_PETER: &str = "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";
const BY_ENOCH: &str = "— EnochRoot rwz+eBzmZa0SO3NbfRGzPCpDckykFXSdeX+MNtCOXm2/5n2tiOHp+vAF1aGrQ5ovTG01oOTGwnWLox33WWd1RvMc+QQ=\n";

#[test]
fn the_reference_note_verifies_by_either_key_and_by_no_other() {
    let text = format!("{TEXT}\n{BY_PETER}{BY_ENOCH}");
    let note = Note::parse(&text).expect("a note");
    assert_eq!(note.to_string(), text);
    let (peter, enoch) =
        (VerifierKey::parse(PETER).expect("a key"), VerifierKey::parse(ENOCH).expect("a key"));
    assert_eq!(peter.to_string(), PETER);
    for keys in [vec![peter.clone()], vec![enoch.clone()], vec![peter.clone(), enoch.clone()]] {
        let (signed, by) = note.verify(&keys).expect("signed");
        assert_eq!((signed, by.len()), (TEXT, keys.len()));
    }
    assert!(note.verify(&[]).is_err());
    let stranger = VerifierKey::new("PeterNeumann", *enoch.key()).expect("a key");
    assert!(note.verify(&[stranger]).is_err(), "the same name with another key is another key");
    let forged = Note::parse(&text.replace("don't", "do")).expect("a note");
    assert!(forged.verify(&[peter]).is_err());
}

#[test]
fn the_examples_of_the_c2sp_documents_read_and_print_the_same() {
    let poem = "Ognuno sta solo sul cuor della terra\ntrafitto da un raggio di sole:\n\ned è subito sera.\n\n— quasimodo.example/salvatore NnugSzTjtVAewIS+Z/iJhUPeFDkO/5QQ2i5ddnGITLlC+EhfLW9oJKONrMouFSQU0xMcXxj99ihAQwaqP3ZekRwNtIc=\n";
    let note = Note::parse(poem).expect("a note");
    assert_eq!(note.to_string(), poem);
    assert!(note.text().ends_with("ed è subito sera.\n"));

    let signed = "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\n— example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n— witness.example.com/w1 jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2oyin1nPZqhf5nNo0xUe+mbIUBkBIfZ+qnA==\n";
    let note = Note::parse(signed).expect("a note");
    assert_eq!((note.to_string().as_str(), note.signatures().len()), (signed, 2));
    let checkpoint = Checkpoint::parse(note.text()).expect("a checkpoint");
    assert_eq!((checkpoint.origin.as_str(), checkpoint.size), ("example.com/behind-the-sofa", 20_852_163));
    assert_eq!(checkpoint.text(), note.text());
}

#[test]
fn signed_note_and_tlog_tiles_read_our_checkpoints() {
    let key = TestKey::new(3);
    let name = VerifierKey::new("eu.example/log", key.public()).expect("a name");
    let tree = numbered(11);
    let ours = Checkpoint { origin: "eu.example/log".into(), size: 11, root: tree.root(11) };
    let note = ours.sign(&NoteSigner::new(&name, &key).expect("the key")).expect("a note").to_string();

    let theirs = signed_note::Note::from_bytes(note.as_bytes()).expect("their note");
    let verifier = signed_note::StandardVerifier::new(&name.to_string()).expect("their key");
    let (good, other) =
        theirs.verify(&signed_note::VerifierList::new(vec![Box::new(verifier)])).expect("verifies");
    assert_eq!((good.len(), other.len()), (1, 0));
    let text = tlog_tiles::Checkpoint::from_bytes(theirs.text()).expect("their checkpoint");
    assert_eq!((text.origin(), text.size(), text.hash().0), ("eu.example/log", 11, tree.root(11)));
    assert_eq!(Checkpoint::verify(&note, &name).expect("ours"), ours);
}

#[test]
fn what_is_no_checkpoint_is_refused() {
    let root = "CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=";
    for bad in [
        String::new(),
        format!("o\n1\n{root}"),
        format!("\n1\n{root}\n"),
        format!("o\n01\n{root}\n"),
        format!("o\n+1\n{root}\n"),
        format!("o\n\n{root}\n"),
        format!("o\n18446744073709551616\n{root}\n"),
        format!("o\n1\n{root}\n\n"),
        "o\n1\nAAAA\n".to_owned(),
    ] {
        assert!(Checkpoint::parse(&bad).is_err(), "{bad:?}");
    }
    assert!(Checkpoint::parse(&format!("o\n1\n{root}\nextension\n")).is_ok());
}
