//! Large content up and down, in pieces; never more than a few pieces in memory.

use bytes::Bytes;
use domicile_proto::records::v1::{
    DownloadHeader, DownloadObjectRequest, ExportFhirRequest, ImportFhirRequest, ImportFhirResponse,
    ImportHeader, UploadHeader, UploadObjectRequest, UploadObjectResponse, download_object_response,
    import_fhir_request, upload_object_request,
};
use domicile_types::{Code, Error, Result};
use tokio_stream::{Stream, StreamExt as _};

use crate::client::{Client, answer};

/// Bytes of one piece; the most the services take.
pub const PIECE: usize = 1024 * 1024;

/// Uploads content read piece by piece from `pieces` and waits until it is stored.
///
/// # Errors
/// What the region answers.
pub async fn upload(
    client: &Client,
    header: UploadHeader,
    pieces: impl Stream<Item = Bytes> + Send + 'static,
) -> Result<UploadObjectResponse> {
    let first = UploadObjectRequest { part: Some(upload_object_request::Part::Header(header)) };
    let rest = pieces
        .map(|content| UploadObjectRequest { part: Some(upload_object_request::Part::Content(content)) });
    answer(client.records().upload_object(tokio_stream::once(first).chain(rest))).await
}

/// Content in memory as pieces.
pub fn pieces(content: &Bytes) -> impl Stream<Item = Bytes> + Send + 'static {
    let content = content.clone();
    let starts = (0..content.len()).step_by(PIECE);
    tokio_stream::iter(starts.map(move |start| content.slice(start..(start + PIECE).min(content.len()))))
}

/// Downloads an object; `head` sees the header first, then `piece` each piece in order. The length
/// is checked; the content was checked against its digest before it was sent.
///
/// # Errors
/// What the region answers; [`Code::ObjectIncomplete`] when the content ends early.
pub async fn download(
    client: &Client,
    request: DownloadObjectRequest,
    mut head: impl FnMut(&DownloadHeader),
    mut piece: impl FnMut(&Bytes) -> Result<()>,
) -> Result<DownloadHeader> {
    let mut stream = answer(client.records().download_object(request)).await?;
    let mut header = None;
    let mut length = 0;
    while let Some(message) = next(&mut stream).await? {
        match message.part {
            Some(download_object_response::Part::Header(first)) => {
                head(&first);
                header = Some(first);
            }
            Some(download_object_response::Part::Content(content)) => {
                length += content.len() as u64;
                piece(&content)?;
            }
            None => {}
        }
    }
    header
        .filter(|header| header.length == length)
        .ok_or_else(|| Error::new(Code::ObjectIncomplete).at("download"))
}

/// Imports a FHIR bundle's JSON text.
///
/// # Errors
/// What the region answers.
pub async fn import_fhir(
    client: &Client,
    header: ImportHeader,
    content: &Bytes,
) -> Result<ImportFhirResponse> {
    let first = ImportFhirRequest { part: Some(import_fhir_request::Part::Header(header)) };
    let rest = pieces(content)
        .map(|piece| ImportFhirRequest { part: Some(import_fhir_request::Part::Content(piece.to_vec())) });
    answer(client.records().import_fhir(tokio_stream::once(first).chain(rest))).await
}

/// Exports an imported bundle's JSON text, piece by piece.
///
/// # Errors
/// What the region answers.
pub async fn export_fhir(
    client: &Client,
    request: ExportFhirRequest,
    mut piece: impl FnMut(&[u8]) -> Result<()>,
) -> Result<()> {
    let mut stream = answer(client.records().export_fhir(request)).await?;
    while let Some(message) = next(&mut stream).await? {
        piece(&message.content)?;
    }
    Ok(())
}

/// The next message of a stream.
///
/// # Errors
/// What the region answers instead.
pub async fn next<T>(stream: &mut tonic::Streaming<T>) -> Result<Option<T>> {
    stream.message().await.map_err(|status| domicile_rpc::from_status(&status))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn pieces_are_whole_and_in_order() {
        for length in [0, 1, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE] {
            let content: Bytes = (0..length).map(|i| u8::try_from(i % 251).unwrap()).collect();
            let parts: Vec<Bytes> = pieces(&content).collect().await;
            assert_eq!(parts.len(), length.div_ceil(PIECE));
            assert_eq!(parts.concat(), content);
        }
    }
}
