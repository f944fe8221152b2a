//! Signed heads of the audit chain, kept outside of the database: who removes the newest records, or replaces the chain as
//! a whole, has to forge a signature too.
//!
//! A head is signed with Ed25519 over `atoll-audit-head/1\n<records>\n<hash>\n<unix ms>\n`. Heads are appended to
//! `audit/heads.jsonl` beside the database; copies elsewhere make them worth more.

use std::io;
use std::path::{Path, PathBuf};

use atoll_api::v1::{AuditBreak, AuditHead};
use atoll_store::{Journal, JournalError};
use ring::rand::SystemRandom;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use tokio::io::AsyncWriteExt;
use tokio::sync::Mutex;

/// Heads read from the file; beyond, the oldest are left out.
const HEADS_MAX: usize = 100_000;

/// Signs heads and keeps them.
pub(crate) struct Heads {
    key: Ed25519KeyPair,
    file: PathBuf,
    /// Records of the newest head; held while one is written.
    signed: Mutex<u64>,
}

impl Heads {
    /// Opens the directory; makes a key when there is none.
    pub(crate) async fn open(directory: &Path) -> io::Result<Self> {
        tokio::fs::create_dir_all(directory).await?;
        let key = load_key(&directory.join("key.pk8"))?;
        let file = directory.join("heads.jsonl");
        let signed = read(&file).await?.last().map_or(0, |head| head.records);
        Ok(Self { key, file, signed: Mutex::new(signed) })
    }

    /// Signs where the chain ends, unless that was signed already. The head is durable when this returns.
    pub(crate) async fn sign(&self, journal: &Journal, at_ms: u64) -> Result<Option<AuditHead>, HeadError> {
        let mut signed = self.signed.lock().await;
        let end = journal.audit_head().await?;
        if end.count <= *signed {
            return Ok(None);
        }
        let signature = self.key.sign(message(end.count, &end.head, at_ms).as_bytes());
        let head = AuditHead {
            records: end.count,
            head: end.head,
            at_ms,
            public_key: hex::encode(self.key.public_key().as_ref()),
            signature: hex::encode(signature.as_ref()),
        };
        let mut line = serde_json::to_vec(&head).expect("heads are JSON");
        line.push(b'\n');
        let mut file = tokio::fs::OpenOptions::new().create(true).append(true).open(&self.file).await?;
        file.write_all(&line).await?;
        file.sync_data().await?;
        *signed = head.records;
        Ok(Some(head))
    }

    /// Every head that was kept, oldest first.
    pub(crate) async fn all(&self) -> io::Result<Vec<AuditHead>> {
        read(&self.file).await
    }

    /// Holds heads, those kept here or elsewhere, against the chain. Returns the first that does not fit.
    pub(crate) async fn check(
        &self,
        journal: &Journal,
        heads: &[AuditHead],
    ) -> Result<Option<AuditBreak>, JournalError> {
        let key = UnparsedPublicKey::new(&ED25519, self.key.public_key().as_ref());
        for head in heads {
            let signature = hex::decode(&head.signature).unwrap_or_default();
            let said = message(head.records, &head.head, head.at_ms);
            let reason = if key.verify(said.as_bytes(), &signature).is_err() {
                "the signature of its signed head does not fit"
            } else {
                match hash_of(journal, head).await? {
                    // Its record was forgotten, which the chain itself tells.
                    Fate::Forgotten => continue,
                    Fate::There(hash) if hash == head.head => continue,
                    Fate::There(_) => "a signed head says that it was another record",
                    Fate::Missing => "a signed head says that it was there, and it is missing",
                }
            };
            return Ok(Some(AuditBreak { seq: head.records, reason: reason.to_owned() }));
        }
        Ok(None)
    }
}

/// What became of the record that a head speaks of.
enum Fate {
    There(String),
    Forgotten,
    Missing,
}

async fn hash_of(journal: &Journal, head: &AuditHead) -> Result<Fate, JournalError> {
    if let Some(hash) = journal.audit_hash(head.records).await? {
        return Ok(Fate::There(hash));
    }
    Ok(match journal.audit_floor().await? {
        Some((seq, hash)) if seq == head.records => Fate::There(hash),
        Some((seq, _)) if seq > head.records => Fate::Forgotten,
        _ => Fate::Missing,
    })
}

/// A head could not be signed or kept.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HeadError {
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error("the signed head of the audit chain cannot be kept")]
    Io(#[from] io::Error),
}

fn message(records: u64, hash: &str, at_ms: u64) -> String {
    format!("atoll-audit-head/1\n{records}\n{hash}\n{at_ms}\n")
}

/// A line that was cut off by a crash, which can only be the last, is left out.
async fn read(file: &Path) -> io::Result<Vec<AuditHead>> {
    let text = match tokio::fs::read_to_string(file).await {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error),
    };
    let heads: Vec<AuditHead> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    Ok(heads[heads.len().saturating_sub(HEADS_MAX)..].to_vec())
}

fn load_key(path: &Path) -> io::Result<Ed25519KeyPair> {
    let unusable = |_| io::Error::new(io::ErrorKind::InvalidData, format!("{} holds no key", path.display()));
    match std::fs::read(path) {
        Ok(bytes) => Ed25519KeyPair::from_pkcs8(&bytes).map_err(unusable),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let made = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new());
            let bytes = made.map_err(|_| io::Error::other("the machine has no random numbers"))?;
            write_private(path, bytes.as_ref())?;
            Ed25519KeyPair::from_pkcs8(bytes.as_ref()).map_err(unusable)
        }
        Err(error) => Err(error),
    }
}

fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;

    let new = path.with_extension("new");
    let mut file = std::fs::OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(new, path)
}
