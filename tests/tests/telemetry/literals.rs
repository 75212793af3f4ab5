//! Messages of the log are literals: the collector gets them as they stand (P8).

use std::path::Path;

use domicile_tests::world::Outcome;

/// The macros that make an event.
const MACROS: [&str; 5] = ["trace!(", "debug!(", "info!(", "warn!(", "error!("];

/// Calls of tracing's macros whose message has a hole.
fn holes(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for name in MACROS {
        for (at, _) in text.match_indices(&format!("tracing::{name}")) {
            let call = call(&text[at..]);
            let strings = call.split('"').skip(1).step_by(2);
            if strings.into_iter().any(|string| string.contains('{')) {
                found.push(call.to_owned());
            }
        }
    }
    found
}

/// The text of one call, to its closing parenthesis.
fn call(text: &str) -> &str {
    let mut depth = 0_i32;
    for (at, letter) in text.char_indices() {
        match letter {
            '(' => depth += 1,
            ')' => {
                depth -= 1;
                if depth == 0 {
                    return &text[..=at];
                }
            }
            _ => {}
        }
    }
    text
}

fn walk(folder: &Path, wrong: &mut Vec<String>, events: &mut usize) -> Outcome<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            walk(&path, wrong, events)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path)?;
            *events +=
                MACROS.iter().map(|name| text.matches(&format!("tracing::{name}")).count()).sum::<usize>();
            wrong.extend(holes(&text).into_iter().map(|call| format!("{}: {call}", path.display())));
        }
    }
    Ok(())
}

#[test]
fn messages_have_no_holes() {
    let services = Path::new(env!("CARGO_MANIFEST_DIR")).join("../services");
    let (mut wrong, mut events) = (Vec::new(), 0);
    walk(&services, &mut wrong, &mut events).unwrap();
    assert!(events > 30, "{events} events were looked at");
    assert!(wrong.is_empty(), "fields, not holes: {wrong:#?}");
}

#[test]
fn a_hole_is_found() {
    assert_eq!(holes("tracing::warn!(%code, \"{name} is here\");").len(), 1);
    assert_eq!(holes("tracing::warn!(code = f(\"x\"), \"a message\"); format!(\"{x}\")").len(), 0);
}
