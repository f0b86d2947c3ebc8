//! Frames that end too early: by accident, or as their IP headers say.

const ETHER_TYPES: usize = 12;

/// The first bytes of a frame.
pub fn cut(frame: &[u8], length: usize) -> &[u8] {
    &frame[..length]
}

/// The same with an IP header that knows. None where there is none, or not all of it.
pub fn shorten(frame: &[u8], length: usize) -> Option<Vec<u8>> {
    let mut shorter = frame.get(..length)?.to_vec();
    let mut at = ETHER_TYPES;
    while let [0x81, 0x00] | [0x88, 0xa8] = shorter.get(at..at + 2)? {
        at += 4;
    }
    let l3 = at + 2;
    match shorter[at..l3] {
        [0x08, 0x00] => {
            let total = (length - l3) as u16;
            let old = u16::from_be_bytes(shorter.get(l3 + 2..l3 + 4)?.try_into().ok()?);
            let sum = u16::from_be_bytes(shorter.get(l3 + 10..l3 + 12)?.try_into().ok()?);
            // RFC 1624: only the length changed.
            let new = u32::from(!sum) + u32::from(!old) + u32::from(total);
            let new = !(((new & 0xffff) + (new >> 16)) as u16);
            shorter[l3 + 2..l3 + 4].copy_from_slice(&total.to_be_bytes());
            shorter[l3 + 10..l3 + 12].copy_from_slice(&new.to_be_bytes());
        }
        [0x86, 0xdd] => {
            let payload = length.checked_sub(l3 + 40)? as u16;
            shorter[l3 + 4..l3 + 6].copy_from_slice(&payload.to_be_bytes());
        }
        _ => return None,
    }
    Some(shorter)
}
