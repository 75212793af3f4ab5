//! Every error code has its page, and every page its code. The head of a page follows from the code table;
//! what stands below it is written by hand. `DOMICILE_BLESS=1` writes the heads and the index anew.

#![expect(clippy::unwrap_used, reason = "a test that cannot look at the repository fails")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use domicile_types::{Class, Code};

const INDEX: &str = "README.md";

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("docs").join("errors")
}

/// The canonical gRPC status code of a class.
const fn status(class: Class) -> &'static str {
    match class {
        Class::InvalidArgument => "INVALID_ARGUMENT",
        Class::OutOfRange => "OUT_OF_RANGE",
        Class::NotFound => "NOT_FOUND",
        Class::AlreadyExists => "ALREADY_EXISTS",
        Class::PermissionDenied => "PERMISSION_DENIED",
        Class::Unauthenticated => "UNAUTHENTICATED",
        Class::FailedPrecondition => "FAILED_PRECONDITION",
        Class::Aborted => "ABORTED",
        Class::Unavailable => "UNAVAILABLE",
        Class::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Class::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Class::DataLoss => "DATA_LOSS",
        Class::Internal => "INTERNAL",
    }
}

/// What every page begins with.
fn head(code: Code) -> String {
    let (name, status) = (code.as_str(), status(code.class()));
    let exit = domicile_cli::failure::exit_code(code.class());
    format!(
        "# {name}\n\n**What happened.** {}\n\n**What to do.** {}\n\n\
         gRPC status `{status}`; the command line ends with {exit}.\n",
        code.what(),
        code.advice()
    )
}

fn index() -> String {
    let mut text = String::from(
        "# Error codes\n\n\
         Every error carries a stable code. A gRPC answer has it in the metadata key `domicile-code`, the command\n\
         line prints it, and `--json` has it in `error.code`. Where a field, a key or a blocker is at fault, it is\n\
         named beside the code (`domicile-place`). An error never holds clinical data, and never the text of its\n\
         cause: that goes to the operator's log.\n\n\
         | code | status | what happened |\n|---|---|---|\n",
    );
    for code in Code::ALL {
        let (name, status) = (code.as_str(), status(code.class()));
        text.push_str(&format!("| [{name}]({name}.md) | `{status}` | {} |\n", code.what()));
    }
    text
}

/// Codes without a page or with another text, and pages without a code.
fn drift(codes: &[Code], read: impl Fn(&str) -> Option<String>, pages: &BTreeSet<String>) -> Vec<String> {
    let mut found = Vec::new();
    for code in codes {
        let name = format!("{}.md", code.as_str());
        match read(&name) {
            None => found.push(format!("{name} is missing")),
            Some(text) if !text.starts_with(&head(*code)) => found.push(format!("{name} has another text")),
            Some(_) => {}
        }
    }
    let known: BTreeSet<_> = codes.iter().map(|code| format!("{}.md", code.as_str())).collect();
    found.extend(pages.difference(&known).map(|page| format!("{page} has no code")));
    found
}

fn read(name: &str) -> Option<String> {
    std::fs::read_to_string(folder().join(name)).ok()
}

fn bless() {
    std::fs::create_dir_all(folder()).unwrap();
    std::fs::write(folder().join(INDEX), index()).unwrap();
    for code in Code::ALL {
        let name = format!("{}.md", code.as_str());
        let old = read(&name).unwrap_or_default();
        // What was written by hand begins at the first heading of the second level.
        let by_hand = old.find("\n## ").map(|at| old[at..].to_owned()).unwrap_or_default();
        std::fs::write(folder().join(name), head(*code) + &by_hand).unwrap();
    }
}

#[test]
fn every_code_has_its_page_and_every_page_its_code() {
    if std::env::var_os("DOMICILE_BLESS").is_some() {
        bless();
    }
    let entries = std::fs::read_dir(folder()).unwrap();
    let mut pages: BTreeSet<_> =
        entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    assert!(pages.remove(INDEX), "docs/errors has no index");
    let found = drift(Code::ALL, read, &pages);
    assert!(found.is_empty(), "{found:#?}\n`just error-pages` writes the pages anew");
    assert_eq!(read(INDEX).unwrap(), index(), "`just error-pages` writes the index anew");
}

#[test]
fn codes_are_unique_and_well_formed() {
    let codes: BTreeSet<_> = Code::ALL.iter().map(|code| code.as_str()).collect();
    assert_eq!(codes.len(), Code::ALL.len());
    for code in codes {
        let parts: Vec<_> = code.split('-').collect();
        let fits = matches!(parts[..], ["DOM", area, number]
            if area.bytes().all(|b| b.is_ascii_uppercase()) && number.len() == 3 && number.parse::<u16>().is_ok());
        assert!(fits, "{code}");
    }
    for code in Code::ALL {
        for sentence in [code.what(), code.advice()] {
            assert!(sentence.ends_with('.') && sentence.len() < 160, "{}", code.as_str());
        }
    }
}

#[test]
fn drift_is_found() {
    let codes = &Code::ALL[..2];
    let good = |name: &str| codes.iter().find(|code| name.starts_with(code.as_str())).map(|code| head(*code));
    let pages: BTreeSet<_> = codes.iter().map(|code| format!("{}.md", code.as_str())).collect();
    assert!(drift(codes, good, &pages).is_empty());
    assert_eq!(drift(codes, |_| None, &BTreeSet::new()).len(), 2);
    assert_eq!(drift(codes, |name| good(name).map(|text| text.replace("**", "*")), &pages).len(), 2);
    let more: BTreeSet<_> = pages.iter().cloned().chain(["DOM-NOTHING-001.md".to_owned()]).collect();
    assert_eq!(drift(codes, good, &more).len(), 1);
}
