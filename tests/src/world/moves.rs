//! Writing records, asking for moves, consenting, waiting, reading back.

use std::collections::BTreeMap;

use domicile_cli::Client;
use domicile_cli::client::{answer, patiently};
use domicile_proto::records::v1::payload::Kind;
use domicile_proto::records::v1::upload_object_request::Part;
use domicile_proto::records::v1::{
    Attachment, DownloadObjectRequest, GetItemRequest, ItemDraft, ListItemsRequest, Note, Payload,
    PutItemRequest, UploadHeader, UploadObjectRequest,
};
use domicile_proto::transfer::v1::{
    GetOfferRequest, GetTransferRequest, GiveConsentRequest, Offer, RequestTransferRequest, Transfer,
    TransferState, WithdrawConsentRequest,
};
use futures::stream;
use tokio::time::Instant;

use super::{Outcome, PATIENCE, Patient, World, pause};

/// A transfer under way.
pub struct Moving {
    /// Its id.
    pub id: String,
    /// The offer, once there is one.
    pub offer: Offer,
}

/// What a test has written and was told is safe: item id to text.
#[derive(Clone, Debug, Default)]
pub struct Written(pub BTreeMap<String, String>);

/// A note's draft.
#[must_use]
pub fn note(text: &str) -> ItemDraft {
    let note = Note { title: "Session".to_owned(), text: text.to_owned(), template: String::new() };
    ItemDraft { payload: Some(Payload { kind: Some(Kind::Note(note)) }), ..Default::default() }
}

/// Writes one note, waiting while the record is frozen.
///
/// # Errors
/// What the region answers.
pub async fn write(client: &Client, subject: &str, text: &str) -> domicile_types::Result<String> {
    let request = PutItemRequest {
        subject_id: subject.to_owned(),
        idempotency_key: World::key(),
        draft: Some(note(text)),
    };
    let put = || answer_put(client, request.clone());
    patiently(PATIENCE, put).await
}

async fn answer_put(client: &Client, request: PutItemRequest) -> domicile_types::Result<String> {
    let header = answer(client.records().put_item(request)).await?.header.unwrap_or_default();
    Ok(header.item_id)
}

impl Written {
    /// Writes `count` notes as the practitioner.
    ///
    /// # Errors
    /// What the region answers.
    pub async fn fill(&mut self, client: &Client, subject: &str, count: usize, word: &str) -> Outcome<()> {
        for number in 0..count {
            let text = format!("{word} {number}");
            let item = write(client, subject, &text).await?;
            self.0.insert(item, text);
        }
        Ok(())
    }

    /// Reads every note back and compares.
    ///
    /// # Errors
    /// Naming the first item that is not as written.
    pub async fn read_back(&self, client: &Client, subject: &str) -> Outcome<()> {
        for (item, text) in &self.0 {
            let request =
                GetItemRequest { subject_id: subject.to_owned(), item_id: item.clone(), version: 0 };
            let read = answer(client.records().get_item(request)).await?.item.and_then(|item| item.payload);
            match read.and_then(|payload| payload.kind) {
                Some(Kind::Note(note)) if note.text == *text => {}
                _ => return Err(format!("item {item} is not as written").into()),
            }
        }
        Ok(())
    }
}

/// Uploads content as an attachment and answers the describing item's id.
///
/// # Errors
/// What the region answers.
pub async fn attach(client: &Client, subject: &str, content: &[u8]) -> Outcome<String> {
    let file = Attachment {
        file_name: "scan.bin".to_owned(),
        media_type: "application/octet-stream".to_owned(),
        object: None,
    };
    let draft =
        ItemDraft { payload: Some(Payload { kind: Some(Kind::Attachment(file)) }), ..Default::default() };
    let header = UploadHeader {
        subject_id: subject.to_owned(),
        idempotency_key: World::key(),
        length: content.len() as u64,
        sha256: domicile_crypto::sha256(content).to_vec(),
        draft: Some(draft),
    };
    let mut parts = vec![UploadObjectRequest { part: Some(Part::Header(header)) }];
    let pieces = content.chunks(512 * 1024);
    parts
        .extend(pieces.map(|piece| UploadObjectRequest { part: Some(Part::Content(piece.to_vec().into())) }));
    let uploaded = answer(client.records().upload_object(stream::iter(parts))).await?;
    Ok(uploaded.header.unwrap_or_default().item_id)
}

/// Downloads an attachment.
///
/// # Errors
/// What the region answers.
pub async fn fetch(client: &Client, subject: &str, item: &str) -> Outcome<Vec<u8>> {
    use domicile_proto::records::v1::download_object_response::Part;
    let request = DownloadObjectRequest { subject_id: subject.to_owned(), item_id: item.to_owned() };
    let mut stream = answer(client.records().download_object(request)).await?;
    let mut content = Vec::new();
    while let Some(message) = stream.message().await.map_err(|status| domicile_rpc::from_status(&status))? {
        if let Some(Part::Content(piece)) = message.part {
            content.extend_from_slice(&piece);
        }
    }
    Ok(content)
}

/// How many items a reader sees.
///
/// # Errors
/// What the region answers.
pub async fn count(client: &Client, subject: &str) -> domicile_types::Result<usize> {
    let (mut count, mut page_token) = (0, String::new());
    loop {
        let request = ListItemsRequest {
            subject_id: subject.to_owned(),
            kind: String::new(),
            page_size: 500,
            page_token,
            with_payloads: false,
        };
        let page = answer(client.records().list_items(request)).await?;
        count += page.items.len();
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(count);
        }
    }
}

impl Patient {
    /// Asks for a move; its id.
    ///
    /// # Errors
    /// What the region answers.
    pub async fn request(&self, destination: &str) -> Outcome<String> {
        let request =
            RequestTransferRequest { destination: destination.to_owned(), idempotency_key: World::key() };
        let asked = answer(self.client.transfers().request_transfer(request)).await?;
        Ok(asked.transfer.unwrap_or_default().transfer_id)
    }

    /// Waits for the offer of a transfer.
    ///
    /// # Errors
    /// What the region answers.
    pub async fn offered(&self, transfer: &str) -> Outcome<Moving> {
        self.reaches(transfer, TransferState::Preflighted).await?;
        let request = GetOfferRequest { transfer_id: transfer.to_owned(), locale: "en".to_owned() };
        let offer = answer(self.client.transfers().get_offer(request)).await?.offer.unwrap_or_default();
        Ok(Moving { id: transfer.to_owned(), offer })
    }

    /// Asks for a move and waits for the offer.
    ///
    /// # Errors
    /// What the region answers.
    pub async fn ask(&self, destination: &str) -> Outcome<Moving> {
        self.offered(&self.request(destination).await?).await
    }

    /// Consents to exactly the offer, freshly authenticated.
    ///
    /// # Errors
    /// What the region answers.
    pub async fn consent(&self, moving: &Moving) -> Outcome<()> {
        self.reauthenticate().await?;
        answer(self.client.transfers().give_consent(moving.consent())).await?;
        Ok(())
    }

    /// Withdraws.
    ///
    /// # Errors
    /// What the region answers.
    pub async fn withdraw(&self, moving: &Moving) -> domicile_types::Result<()> {
        let request = WithdrawConsentRequest { transfer_id: moving.id.clone() };
        answer(self.client.transfers().withdraw_consent(request)).await.map(drop)
    }

    /// Waits until the transfer is in a state, or past it.
    ///
    /// # Errors
    /// When it rests elsewhere or time is over.
    pub async fn reaches(&self, transfer: &str, state: TransferState) -> Outcome<Transfer> {
        reaches(&self.client, transfer, state).await
    }
}

impl Moving {
    /// The consent to exactly the offer.
    #[must_use]
    pub fn consent(&self) -> GiveConsentRequest {
        GiveConsentRequest {
            transfer_id: self.id.clone(),
            offer_digest: self.offer.digest.clone(),
            destination: self.offer.destination.clone(),
            notice_version: self.offer.notice_version.clone(),
            locale: self.offer.locale.clone(),
            forwarding_locator: false,
            psychotherapy_authorized: self.offer.psychotherapy,
        }
    }
}

/// Waits until a transfer is in a state, as a caller sees it.
///
/// # Errors
/// When it rests elsewhere or time is over.
pub async fn reaches(client: &Client, transfer: &str, state: TransferState) -> Outcome<Transfer> {
    let until = Instant::now() + PATIENCE;
    let mut last = String::new();
    while Instant::now() < until {
        let request = GetTransferRequest { transfer_id: transfer.to_owned() };
        match answer(client.transfers().get_transfer(request)).await {
            Ok(found) => {
                let found = found.transfer.unwrap_or_default();
                if found.state() == state {
                    return Ok(found);
                }
                last = format!(
                    "{} blockers {:?} stuck {}",
                    found.state().as_str_name(),
                    found.blockers,
                    found.stuck_cause
                );
            }
            Err(error) => last = error.to_string(),
        }
        pause().await;
    }
    Err(format!("the transfer does not reach {}: {last}", state.as_str_name()).into())
}
