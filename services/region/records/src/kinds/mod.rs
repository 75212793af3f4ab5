//! The kinds of items: one module each, with its message's bounds and its rules. Everything else about
//! items (storing, listing, moving, erasing) is the same for all of them.

mod account;
mod assessment;
mod attachment;
mod booking;
mod chat_message;
mod fhir_resource;
mod form_response;
mod goal;
mod goal_progress;
mod highlight;
mod message;
mod note;
mod payment;
mod referral;
mod reflection;
mod session;
mod transcript;
mod voice_note;

use domicile_proto::records::v1::{ObjectRef, Payload, payload};
use domicile_types::{Code, Error, Result, Visibility};

pub(crate) use fhir_resource::{bundle_payload, entry_payload};

/// What holds for every item of a kind.
#[derive(Debug)]
pub struct Kind {
    /// The name in headers.
    pub name: &'static str,
    /// The version of its payload message.
    pub schema: u16,
    /// The states an item can be in; it begins in the first unless the writer says otherwise.
    pub states: &'static [&'static str],
    /// States that no version follows: corrections are addenda (P40).
    pub locked: &'static [&'static str],
    /// The state in which the item is signed.
    pub signed: Option<&'static str>,
    /// Who may see it, of those the writer may choose from; the first that fits is the default.
    pub visibilities: &'static [Visibility],
    /// Who may write one.
    pub writers: Writers,
    /// Who may write a new version of one.
    pub editors: Editors,
}

/// Who may write items of a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writers {
    /// The client alone.
    Client,
    /// Practitioners alone.
    Carers,
    /// Both.
    Both,
    /// Only the import.
    Import,
}

/// Who may write a new version of an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Editors {
    /// The author of the version before.
    Author,
    /// Every writer of the kind who sees it.
    Writers,
    /// Nobody.
    Nobody,
}

/// For kinds that client and practice share.
const OPEN: &[Visibility] = &[Visibility::Shared, Visibility::Practitioner, Visibility::ClientPrivate];
/// For kinds of the practice's own.
const CLINICAL: &[Visibility] = &[Visibility::Practitioner, Visibility::Shared];

/// Every kind, in the order of their names.
pub const ALL: &[&Kind] = &[
    &account::KIND,
    &assessment::KIND,
    &attachment::KIND,
    &booking::KIND,
    &chat_message::KIND,
    &fhir_resource::KIND,
    &form_response::KIND,
    &goal::KIND,
    &goal_progress::KIND,
    &highlight::KIND,
    &message::KIND,
    &note::KIND,
    &payment::KIND,
    &referral::KIND,
    &reflection::KIND,
    &session::KIND,
    &transcript::KIND,
    &voice_note::KIND,
];

/// Finds a kind by its name.
///
/// # Errors
/// [`Code::KindUnknown`].
pub fn named(name: &str) -> Result<&'static Kind> {
    ALL.iter().copied().find(|kind| kind.name == name).ok_or_else(|| Error::new(Code::KindUnknown))
}

/// Finds a payload's kind and checks the payload against its bounds; what the kind computes is filled in.
///
/// # Errors
/// [`Code::KindUnknown`] for an empty payload, [`Code::InvalidRequest`] naming the field.
pub fn prepare(payload: &mut Payload) -> Result<&'static Kind> {
    use payload::Kind as P;
    let kind = payload.kind.as_mut().ok_or_else(|| Error::new(Code::KindUnknown))?;
    match kind {
        P::Booking(_) => Ok(&booking::KIND),
        P::Session(session) => session::check(session).map(|()| &session::KIND),
        P::ChatMessage(message) => filled("text", &message.text).map(|()| &chat_message::KIND),
        P::Note(note) => filled("text", &note.text).map(|()| &note::KIND),
        P::Reflection(reflection) => filled("text", &reflection.text).map(|()| &reflection::KIND),
        P::Highlight(highlight) => filled("text", &highlight.text).map(|()| &highlight::KIND),
        P::Attachment(attachment) => filled("file_name", &attachment.file_name).map(|()| &attachment::KIND),
        P::VoiceNote(_) => Ok(&voice_note::KIND),
        P::Transcript(transcript) => filled("text", &transcript.text).map(|()| &transcript::KIND),
        P::FormResponse(response) => form_response::check(response).map(|()| &form_response::KIND),
        P::Assessment(assessment) => assessment::score(assessment).map(|()| &assessment::KIND),
        P::Goal(goal) => filled("text", &goal.text).map(|()| &goal::KIND),
        P::GoalProgress(progress) => goal_progress::check(progress).map(|()| &goal_progress::KIND),
        P::Referral(referral) => filled("to", &referral.to).map(|()| &referral::KIND),
        P::Payment(payment) => payment::check(payment).map(|()| &payment::KIND),
        P::Message(message) => filled("text", &message.text).map(|()| &message::KIND),
        P::Account(account) => filled("name", &account.name).map(|()| &account::KIND),
        P::FhirResource(_) => Ok(&fhir_resource::KIND),
    }
}

/// The reference to the object behind a payload, for the kinds that have one.
pub fn object_ref(payload: &mut Payload) -> Option<&mut Option<ObjectRef>> {
    match payload.kind.as_mut()? {
        payload::Kind::Attachment(attachment) => Some(&mut attachment.object),
        payload::Kind::VoiceNote(note) => Some(&mut note.object),
        _ => None,
    }
}

impl Kind {
    /// The state's name as the kind knows it; the first for an empty one.
    ///
    /// # Errors
    /// [`Code::InvalidRequest`] for a state the kind does not have.
    pub fn state(&self, name: &str) -> Result<&'static str> {
        let found = self.states.iter().copied().find(|state| *state == name || name.is_empty());
        found.ok_or_else(|| invalid("draft.state"))
    }

    /// Whether no version may follow one in this state.
    #[must_use]
    pub fn is_locked(&self, state: &str) -> bool {
        self.locked.contains(&state)
    }
}

fn filled(field: &str, text: &str) -> Result<()> {
    if text.trim().is_empty() { Err(invalid(&format!("draft.payload.{field}"))) } else { Ok(()) }
}

fn one_of(field: &str, text: &str, names: &[&str]) -> Result<()> {
    if names.contains(&text) { Ok(()) } else { Err(invalid(&format!("draft.payload.{field}"))) }
}

fn invalid(place: &str) -> Error {
    Error::new(Code::InvalidRequest).at(place)
}

#[cfg(test)]
mod tests {
    use super::*;
    use domicile_proto::records::v1::{Assessment, GoalProgress, Note, Payment, Session};

    fn code(kind: payload::Kind) -> Option<Code> {
        prepare(&mut Payload { kind: Some(kind) }).err().map(|error| error.code())
    }

    #[test]
    fn kinds_are_sorted_named_once_and_begin_in_an_open_state() {
        assert!(ALL.is_sorted_by(|one, next| one.name < next.name));
        for kind in ALL {
            assert_eq!(named(kind.name).unwrap().name, kind.name);
            assert_eq!(kind.state("").unwrap(), kind.states[0]);
            assert!(kind.editors == Editors::Nobody || !kind.is_locked(kind.states[0]), "{}", kind.name);
            assert!(kind.locked.iter().chain(kind.signed.iter()).all(|state| kind.states.contains(state)));
            assert!(!kind.visibilities.is_empty());
            assert_eq!(kind.state("no such state").unwrap_err().code(), Code::InvalidRequest);
        }
        assert_eq!(named("no such kind").unwrap_err().code(), Code::KindUnknown);
    }

    /// Who may do what with each kind, to be reviewed when it changes.
    #[test]
    fn the_rules_of_all_kinds() {
        let rule = |kind: &&Kind| {
            let visibilities: Vec<&str> = kind.visibilities.iter().map(|one| one.as_str()).collect();
            format!(
                "{}: {:?} write, {:?} edit; {}; {}",
                kind.name,
                kind.writers,
                kind.editors,
                kind.states
                    .iter()
                    .map(|state| if kind.is_locked(state) {
                        format!("[{state}]")
                    } else {
                        (*state).to_owned()
                    })
                    .collect::<Vec<_>>()
                    .join(" "),
                visibilities.join(" ")
            )
        };
        let rules: Vec<String> = ALL.iter().map(rule).collect();
        let expected = include_str!("rules.txt");
        assert_eq!(rules.join("\n") + "\n", expected);
    }

    #[test]
    fn an_empty_payload_is_of_no_kind() {
        assert_eq!(prepare(&mut Payload { kind: None }).unwrap_err().code(), Code::KindUnknown);
    }

    // P42
    #[test]
    fn assessments_are_scored_here() {
        let answers = vec![1, 2, 3, 0, 1, 2, 3, 0, 1];
        let made = Assessment { instrument: "phq-9/1".into(), answers, score: 0 };
        let mut payload = Payload { kind: Some(payload::Kind::Assessment(made)) };
        assert_eq!(prepare(&mut payload).unwrap().name, "assessment");
        let Some(payload::Kind::Assessment(scored)) = payload.kind else { panic!("another kind") };
        assert_eq!(scored.score, 13);

        for (instrument, answers, score) in [
            ("phq-9/1", vec![1; 8], 0),
            ("phq-9/1", vec![4; 9], 0),
            ("gad-7/1", vec![1; 7], 6),
            ("PHQ", vec![], 0),
            ("", vec![], 0),
        ] {
            let made = Assessment { instrument: instrument.into(), answers, score };
            assert_eq!(code(payload::Kind::Assessment(made)), Some(Code::InvalidRequest));
        }
    }

    #[test]
    fn bounds_of_the_messages_are_held() {
        let progress = GoalProgress { percent: 101, text: String::new() };
        assert_eq!(code(payload::Kind::GoalProgress(progress)), Some(Code::InvalidRequest));
        let payment = Payment { amount_minor: 100, currency: "eur".into(), method: "cash".into() };
        assert_eq!(code(payload::Kind::Payment(payment)), Some(Code::InvalidRequest));
        let payment = Payment { amount_minor: 100, currency: "EUR".into(), method: "4111".into() };
        assert_eq!(code(payload::Kind::Payment(payment)), Some(Code::InvalidRequest));
        let session = Session { modality: "telepathy".into(), summary: String::new() };
        assert_eq!(code(payload::Kind::Session(session)), Some(Code::InvalidRequest));
        let note = Note { title: "t".into(), text: " ".into(), template: String::new() };
        assert_eq!(code(payload::Kind::Note(note)), Some(Code::InvalidRequest));
    }
}
