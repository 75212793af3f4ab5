//! Bounds of what a record takes in.

use domicile_types::Result;
use serde::Deserialize;

use crate::shared::ensure;

/// Sizes and numbers of uploads, imports and pages.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RecordSettings {
    /// Bytes of one uploaded object at most. It is streamed: its size costs disk, not memory.
    pub object_bytes: u64,
    /// Bytes of one imported bundle at most; it is held in memory.
    pub import_bytes: usize,
    /// Bytes of all bundles that this process holds in memory at a time; further ones are refused.
    pub import_memory: usize,
    /// Uploads and imports into one record at a time; further ones are refused.
    pub uploads_at_once: usize,
    /// Items of one page at most.
    pub page_items: u32,
}

impl Default for RecordSettings {
    fn default() -> Self {
        Self {
            object_bytes: 1024 * 1024 * 1024,
            import_bytes: 64 * 1024 * 1024,
            import_memory: 128 * 1024 * 1024,
            uploads_at_once: 8,
            page_items: 500,
        }
    }
}

impl RecordSettings {
    pub(crate) fn check(&self) -> Result<()> {
        const MIB: u64 = 1024 * 1024;
        const GIB: usize = 1024 * 1024 * 1024;
        ensure("records.object_bytes", (MIB..=1024 * 1024 * MIB).contains(&self.object_bytes))?;
        ensure("records.import_bytes", (64 * 1024..=GIB).contains(&self.import_bytes))?;
        ensure("records.import_memory", (self.import_bytes..=GIB).contains(&self.import_memory))?;
        ensure("records.uploads_at_once", (1..=256).contains(&self.uploads_at_once))?;
        ensure("records.page_items", (50..=5_000).contains(&self.page_items))
    }
}
