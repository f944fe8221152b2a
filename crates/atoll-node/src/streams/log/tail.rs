//! Finding the last lines of a file from its end.

use std::io;

use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt, SeekFrom};

const BLOCK_BYTES: u64 = 32 * 1024;

/// Moves to the beginning of the last `lines` lines, or of the file if it has fewer. Returns how many there are.
pub(super) async fn seek_to_last_lines(file: &mut File, lines: u64) -> io::Result<u64> {
    let end = file.metadata().await?.len();
    let mut block = vec![0; BLOCK_BYTES as usize];
    let mut found = 0;
    let mut at = end;
    while at > 0 {
        let start = at.saturating_sub(BLOCK_BYTES);
        let bytes = &mut block[..usize::try_from(at - start).expect("a block fits into memory")];
        file.seek(SeekFrom::Start(start)).await?;
        file.read_exact(bytes).await?;
        for (index, _) in bytes.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n') {
            let after = start + index as u64 + 1;
            if found == lines {
                file.seek(SeekFrom::Start(after)).await?;
                return Ok(found);
            }
            found += 1;
        }
        at = start;
    }
    file.seek(SeekFrom::Start(0)).await?;
    Ok(found)
}
