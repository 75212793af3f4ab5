//! The key release: what the source hands the destination once Released stands. Everything in it is
//! sealed; its digest stands in the Released statement.

use serde::{Deserialize, Serialize};

/// The sealed travel key and the sealed control rows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyRelease {
    /// HPKE: the encapsulated key.
    #[serde(with = "hex_bytes")]
    pub encapsulated: Vec<u8>,
    /// HPKE: the sealed travel key.
    #[serde(with = "hex_bytes")]
    pub sealed_key: Vec<u8>,
    /// The control stream's header, salt and commitment.
    pub control_head: Head,
    /// The control stream's sealed chunks.
    pub control_chunks: Vec<Chunk>,
}

/// The head of a travel stream, as bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// The encoded header.
    #[serde(with = "hex_bytes")]
    pub header: Vec<u8>,
    /// The salt.
    #[serde(with = "hex_bytes")]
    pub salt: Vec<u8>,
    /// The key commitment.
    #[serde(with = "hex_bytes")]
    pub commitment: Vec<u8>,
}

/// One sealed chunk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Chunk(#[serde(with = "hex_bytes")] pub Vec<u8>);

impl KeyRelease {
    /// The bytes whose digest Released states: every part, each behind its length.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let head = &self.control_head;
        let parts = [&self.encapsulated, &self.sealed_key, &head.header, &head.salt, &head.commitment];
        let chunks = self.control_chunks.iter().map(|chunk| &chunk.0);
        let mut out = b"domicile/key-release/1".to_vec();
        for part in parts.into_iter().chain(chunks) {
            out.extend_from_slice(&(part.len() as u64).to_be_bytes());
            out.extend_from_slice(part);
        }
        out
    }
}

/// Bytes as hexadecimal text.
pub mod hex_bytes {
    use serde::{Deserialize, Deserializer, Serializer};

    /// Writes hexadecimal.
    ///
    /// # Errors
    /// The serializer's.
    pub fn serialize<S: Serializer>(bytes: &[u8], out: S) -> Result<S::Ok, S::Error> {
        out.serialize_str(&hex::encode(bytes))
    }

    /// Reads hexadecimal.
    ///
    /// # Errors
    /// When the text is not hexadecimal.
    pub fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<Vec<u8>, D::Error> {
        hex::decode(String::deserialize(input)?).map_err(serde::de::Error::custom)
    }
}
