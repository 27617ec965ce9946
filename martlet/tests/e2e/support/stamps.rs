//! Stamped blocks: 512 bytes that say which write they came from and where they belong.

/// A block's content: its place and the number of the write, all over, so that a torn or misplaced block shows.
pub(crate) fn block(lba: u64, number: u64) -> [u8; 512] {
    let mut bytes = [0; 512];
    for (n, words) in bytes.chunks_exact_mut(16).enumerate() {
        let salt = (n as u64) << 48;
        words[..8].copy_from_slice(&(lba ^ salt).to_le_bytes());
        words[8..].copy_from_slice(&(number ^ salt).to_le_bytes());
    }
    bytes
}

/// The number of the write that a block came from; 0: never written. Panics on anything else.
#[track_caller]
pub(crate) fn number(lba: u64, bytes: &[u8]) -> u64 {
    if bytes.iter().all(|b| *b == 0) {
        return 0;
    }
    let number = u64::from_le_bytes(bytes[8..16].try_into().expect("8 bytes"));
    assert!(
        bytes == block(lba, number),
        "block {lba} holds what was never written there: {:02x?}…",
        &bytes[..32]
    );
    number
}

/// The content of blocks from `lba` on, all of one write.
pub(crate) fn extent(lba: u64, blocks: u64, number: u64) -> Vec<u8> {
    (lba..lba + blocks)
        .flat_map(|lba| block(lba, number))
        .collect()
}
