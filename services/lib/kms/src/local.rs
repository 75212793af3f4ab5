//! A key service on a local key file, for one machine: the root key lies in a file only the service's
//! user may read. A deployment that must keep its root key from the host uses a cloud's key service.

use std::path::Path;

use async_trait::async_trait;
use domicile_crypto::service::MAX_WRAP;
use domicile_crypto::{DataKey, Key32, KeyContext, KeyInfo, KeyService, open, seal};
use domicile_types::{Code, Ctx, Error, Result};
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::private_file;

/// The format this release writes and reads.
const FORMAT: u32 = 1;

/// Root keys in a local file: the newest wraps, all unwrap.
pub struct LocalKeys {
    id: String,
    roots: Vec<Root>,
    ctx: Ctx,
}

struct Root {
    number: u32,
    key: Key32,
}

/// The file's content.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyFile {
    format: u32,
    id: String,
    keys: Vec<FileKey>,
}

#[derive(Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
#[serde(deny_unknown_fields)]
struct FileKey {
    number: u32,
    key: String,
}

impl LocalKeys {
    /// Opens the key file; makes one on the first start. Blocks on the file system: for start-up.
    ///
    /// # Errors
    /// [`Code::KeyFileUnsafe`] when others may read it; [`Code::KeyUnavailable`] when it cannot be read or
    /// written; [`Code::KeyDenied`] when it is no key file.
    pub fn open(path: &Path, ctx: &Ctx) -> Result<Self> {
        if let Some(content) = private_file::read(path)? {
            return Self::parse(&content, ctx);
        }
        let content = Self::fresh(ctx)?;
        // Of two first starts at once, the loser reads the winner's file.
        private_file::create(path, &content, ctx)?;
        let content =
            private_file::read(path)?.ok_or_else(|| Error::new(Code::KeyUnavailable).at("key file"))?;
        Self::parse(&content, ctx)
    }

    /// A root key that is gone with the process.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn in_memory(ctx: &Ctx) -> Self {
        let roots = vec![Root { number: 1, key: Key32::generate(ctx) }];
        Self { id: "local-memory".to_owned(), roots, ctx: ctx.clone() }
    }

    fn fresh(ctx: &Ctx) -> Result<Zeroizing<Vec<u8>>> {
        let key = Key32::generate(ctx);
        let file = KeyFile {
            format: FORMAT,
            id: format!("local-{}", hex::encode(ctx.random::<8>())),
            keys: vec![FileKey { number: 1, key: hex::encode(key.expose()) }],
        };
        serde_json::to_vec_pretty(&file).map(Zeroizing::new).map_err(|_| not_a_key_file())
    }

    fn parse(content: &[u8], ctx: &Ctx) -> Result<Self> {
        // The parser's own words could quote the key: they are dropped.
        let file: KeyFile = serde_json::from_slice(content).map_err(|_| not_a_key_file())?;
        let mut roots = file.keys.iter().map(Root::parse).collect::<Result<Vec<_>>>()?;
        roots.sort_by_key(|root| root.number);
        let distinct = roots.windows(2).all(|pair| matches!(pair, [a, b] if a.number < b.number));
        if file.format != FORMAT || roots.is_empty() || !distinct {
            return Err(not_a_key_file());
        }
        Ok(Self { id: file.id, roots, ctx: ctx.clone() })
    }

    fn newest(&self) -> Result<&Root> {
        self.roots.last().ok_or_else(not_a_key_file)
    }

    fn seal(&self, context: &KeyContext, plain: &[u8]) -> Result<Vec<u8>> {
        if plain.len() > MAX_WRAP {
            return Err(Error::new(Code::TooLarge).at("secret"));
        }
        let root = self.newest()?;
        let mut wrapped = root.number.to_be_bytes().to_vec();
        wrapped.extend(seal(&root.key, &self.ctx, &aad(root.number, context), plain)?);
        Ok(wrapped)
    }

    fn open_wrapped(&self, context: &KeyContext, wrapped: &[u8]) -> Result<Zeroizing<Vec<u8>>> {
        let (number, sealed) = wrapped.split_first_chunk::<4>().ok_or_else(denied)?;
        let number = u32::from_be_bytes(*number);
        let root = self.roots.iter().find(|root| root.number == number).ok_or_else(denied)?;
        open(&root.key, &aad(number, context), sealed).map_err(|_| denied())
    }
}

impl Root {
    fn parse(file: &FileKey) -> Result<Self> {
        let bytes = Zeroizing::new(hex::decode(&file.key).map_err(|_| not_a_key_file())?);
        let key = Key32::from_slice(&bytes).map_err(|_| not_a_key_file())?;
        Ok(Self { number: file.number, key })
    }
}

#[async_trait]
impl KeyService for LocalKeys {
    async fn generate_data_key(&self, context: &KeyContext) -> Result<DataKey> {
        let plain = Key32::generate(&self.ctx);
        let wrapped = self.seal(context, plain.expose())?;
        Ok(DataKey { plain, wrapped })
    }

    async fn wrap(&self, context: &KeyContext, plain: &[u8]) -> Result<Vec<u8>> {
        self.seal(context, plain)
    }

    async fn unwrap(&self, context: &KeyContext, wrapped: &[u8]) -> Result<Zeroizing<Vec<u8>>> {
        self.open_wrapped(context, wrapped)
    }

    fn describe(&self) -> KeyInfo {
        KeyInfo { id: self.id.clone(), provider: "local" }
    }

    async fn health(&self) -> Result<()> {
        self.newest().map(drop)
    }
}

fn aad(number: u32, context: &KeyContext) -> Vec<u8> {
    let mut aad = context.encode();
    aad.extend_from_slice(&number.to_be_bytes());
    aad
}

fn not_a_key_file() -> Error {
    Error::new(Code::KeyDenied).at("key file")
}

fn denied() -> Error {
    Error::new(Code::KeyDenied).at("wrapped key")
}
