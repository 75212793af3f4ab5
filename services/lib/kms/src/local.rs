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

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
    use std::path::PathBuf;

    use domicile_crypto::Purpose;
    use domicile_types::RegionId;
    use tempfile::TempDir;

    use super::*;
    use crate::conformance;

    fn place() -> (TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keys").join("root.json");
        (directory, path)
    }

    fn open_at(path: &Path) -> Result<LocalKeys> {
        LocalKeys::open(path, &Ctx::system())
    }

    fn code(path: &Path) -> Code {
        open_at(path).err().unwrap().code()
    }

    fn context() -> KeyContext {
        KeyContext::region(RegionId::new("eu").unwrap(), Purpose::Travel)
    }

    #[tokio::test]
    async fn conforms() {
        let (_directory, path) = place();
        conformance::key_service(&open_at(&path).unwrap(), &Ctx::system()).await.unwrap();
    }

    #[tokio::test]
    async fn the_second_start_opens_what_the_first_wrapped() {
        let (_directory, path) = place();
        let wrapped = open_at(&path).unwrap().wrap(&context(), b"secret").await.unwrap();
        let again = open_at(&path).unwrap();
        assert_eq!(again.unwrap(&context(), &wrapped).await.unwrap().as_slice(), b"secret");
        let (_directory, elsewhere) = place();
        let other = open_at(&elsewhere).unwrap();
        assert_ne!(other.describe(), again.describe());
        assert_eq!(other.unwrap(&context(), &wrapped).await.unwrap_err().code(), Code::KeyDenied);
    }

    #[test]
    fn the_file_is_its_owners_alone_and_the_only_one() {
        let (_directory, path) = place();
        open_at(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_that_others_can_reach_is_refused() {
        let (_directory, path) = place();
        open_at(&path).unwrap();
        for mode in [0o640, 0o620, 0o610, 0o604, 0o602, 0o601, 0o644, 0o777] {
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            assert_eq!(code(&path), Code::KeyFileUnsafe, "{mode:o}");
        }
        for mode in [0o600, 0o400] {
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            assert!(open_at(&path).is_ok(), "{mode:o}");
        }
    }

    #[test]
    fn a_file_of_another_user_is_refused() {
        let (_directory, path) = place();
        open_at(&path).unwrap();
        // Only root can give a file away; anybody else finds root's files already another's.
        let path = if chown(&path, Some(54_321), None).is_ok() { path } else { PathBuf::from("/etc/passwd") };
        assert_eq!(code(&path), Code::KeyFileUnsafe);
    }

    #[test]
    fn links_and_directories_are_refused() {
        let (directory, path) = place();
        open_at(&path).unwrap();
        let link = directory.path().join("link");
        symlink(&path, &link).unwrap();
        assert_eq!(code(&link), Code::KeyFileUnsafe);
        assert_eq!(code(directory.path()), Code::KeyFileUnsafe);
        let dangling = directory.path().join("dangling");
        symlink(directory.path().join("nowhere"), &dangling).unwrap();
        assert_eq!(code(&dangling), Code::KeyFileUnsafe);
    }

    #[test]
    fn what_is_no_key_file_is_refused_and_left_alone() {
        let (_directory, path) = place();
        open_at(&path).unwrap();
        let key = "00".repeat(32);
        let file = |text: &str| text.replace("KEY", &key);
        let bad = [
            String::new(),
            "{".to_owned(),
            file(r#"{"format":2,"id":"x","keys":[{"number":1,"key":"KEY"}]}"#),
            file(r#"{"format":1,"id":"x","keys":[]}"#),
            file(r#"{"format":1,"id":"x","keys":[{"number":1,"key":"KEY00"}]}"#),
            file(r#"{"format":1,"id":"x","keys":[{"number":1,"key":"KEY"},{"number":1,"key":"KEY"}]}"#),
            file(r#"{"format":1,"id":"x","extra":1,"keys":[{"number":1,"key":"KEY"}]}"#),
        ];
        for content in bad {
            fs::write(&path, &content).unwrap();
            assert_eq!(code(&path), Code::KeyDenied, "{content}");
            assert_eq!(fs::read_to_string(&path).unwrap(), content);
        }
    }

    #[tokio::test]
    async fn the_newest_root_wraps_and_all_unwrap() {
        let (_directory, path) = place();
        open_at(&path).unwrap();
        let (one, two) = ("11".repeat(32), "22".repeat(32));
        let file = |keys: &str| format!(r#"{{"format":1,"id":"x","keys":[{keys}]}}"#);
        let first = format!(r#"{{"number":1,"key":"{one}"}}"#);
        let second = format!(r#"{{"number":2,"key":"{two}"}}"#);
        fs::write(&path, file(&first)).unwrap();
        let old = open_at(&path).unwrap().wrap(&context(), b"old").await.unwrap();
        fs::write(&path, file(&format!("{second},{first}"))).unwrap();
        let service = open_at(&path).unwrap();
        assert_eq!(service.unwrap(&context(), &old).await.unwrap().as_slice(), b"old");
        let new = service.wrap(&context(), b"new").await.unwrap();
        fs::write(&path, file(&second)).unwrap();
        let service = open_at(&path).unwrap();
        assert_eq!(service.unwrap(&context(), &new).await.unwrap().as_slice(), b"new");
        assert_eq!(service.unwrap(&context(), &old).await.unwrap_err().code(), Code::KeyDenied);
    }

    #[test]
    fn of_first_starts_at_once_all_use_one_key() {
        let (_directory, path) = place();
        let ids = std::thread::scope(|scope| {
            let starts: Vec<_> =
                (0..8).map(|_| scope.spawn(|| open_at(&path).unwrap().describe().id)).collect();
            starts.into_iter().map(|start| start.join().unwrap()).collect::<Vec<_>>()
        });
        assert!(ids.iter().all(|id| *id == ids[0]));
    }
}
