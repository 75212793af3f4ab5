//! How people reach a region in the simulation: one framed request and one answer a connection. Behind it
//! stands the product's own code; only the encoding is the simulation's.

use std::io;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use turmoil::net::TcpStream;

/// Where every region's desk listens.
pub(super) const PORT: u16 = 7000;
/// The longest frame, in bytes.
const LONGEST: u32 = 64 * 1024;
/// How long a person waits for an answer.
const PATIENCE: Duration = Duration::from_secs(6);

/// What people ask.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Ask {
    /// Writes an item's version under an idempotency key.
    Write { person: Person, item: String, version: u32, key: String, text: String },
    /// Uploads an object and writes the item that describes it.
    Upload { person: Person, object: String, item: String, key: String, text: String },
    /// Reads an item: its newest version, or the named one.
    Read { person: Person, item: String, version: Option<u32> },
    /// Reads an object.
    Fetch { person: Person, object: String },
    /// Asks for a move.
    Move { person: Person, to: String, key: String },
    /// Looks at a transfer, and consents to its offer if told to.
    Look { person: Person, transfer: String, consent: bool },
    /// Withdraws.
    Withdraw { person: Person, transfer: String },
    /// An operator holds, lets go or ends a transfer.
    Operate { transfer: String, what: String },
    /// Compliance staff places or releases a legal hold.
    Hold { person: Person, stands: bool },
    /// An operator lists transfers that do not rest.
    List,
}

/// A client: whose record, and their account.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Person {
    pub(super) subject: String,
    pub(super) account: String,
}

/// What the region answers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Answer {
    /// Done.
    Done,
    /// The version that is written.
    Version(u32),
    /// What was read, its version, and whether this region is the record's home.
    Text { text: String, version: u32, home: bool },
    /// A transfer and its state.
    Transfer { id: String, state: String },
    /// Transfers that do not rest, as their source region sees them.
    Transfers(Vec<(String, String)>),
    /// An error: its code, and where the record went.
    Refused { code: String, moved: Option<String> },
}

/// Sends one frame.
pub(super) async fn send<T: Serialize>(stream: &mut TcpStream, value: &T) -> io::Result<()> {
    let bytes = serde_json::to_vec(value).map_err(io::Error::other)?;
    let length = u32::try_from(bytes.len()).map_err(io::Error::other)?;
    stream.write_all(&length.to_be_bytes()).await?;
    stream.write_all(&bytes).await
}

/// Receives one frame.
pub(super) async fn receive<T: for<'de> Deserialize<'de>>(stream: &mut TcpStream) -> io::Result<T> {
    let length = stream.read_u32().await?;
    if length > LONGEST {
        return Err(io::Error::other("too long"));
    }
    let mut bytes = vec![0; usize::try_from(length).map_err(io::Error::other)?];
    stream.read_exact(&mut bytes).await?;
    serde_json::from_slice(&bytes).map_err(io::Error::other)
}

/// Asks a region; `None` when no answer came, whatever became of the question.
pub(super) async fn ask(region: &str, question: &Ask) -> Option<Answer> {
    let asking = async {
        let mut stream = TcpStream::connect((region, PORT)).await?;
        send(&mut stream, question).await?;
        receive::<Answer>(&mut stream).await
    };
    tokio::time::timeout(PATIENCE, asking).await.ok()?.ok()
}
