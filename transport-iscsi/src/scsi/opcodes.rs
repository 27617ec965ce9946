//! REPORT SUPPORTED OPERATION CODES, printed from the table of commands, and REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS.
//! SPC-4 §6.35 and §6.36.

use super::cdb::{ROWS, Row};
use super::{Sense, cut};

/// Command timeouts descriptor: its length, and no time stated.
const TIMEOUTS: [u8; 12] = [0, 0x0a, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// The answer for `option` 0 (all) to 3 (one command, with or without a service action).
///
/// # Errors
///
/// INVALID FIELD IN CDB when the option does not fit the opcode.
pub fn report(
    option: u8,
    opcode: u8,
    action: u16,
    timeouts: bool,
    allocation: u32,
) -> Result<Vec<u8>, Sense> {
    let data = if option == 0 {
        all(timeouts)
    } else {
        one(find(option, opcode, action)?, timeouts)
    };
    Ok(cut(data, allocation))
}

fn all(timeouts: bool) -> Vec<u8> {
    let mut body = Vec::new();
    for row in ROWS {
        let [high, low] = u16::from(row.action.unwrap_or(0)).to_be_bytes();
        let flags = u8::from(timeouts) << 1 | u8::from(row.action.is_some());
        let size = row.usage.len() as u8; // 6 to 16
        body.extend([row.opcode, 0, high, low, 0, flags, 0, size]);
        if timeouts {
            body.extend(TIMEOUTS);
        }
    }
    // Some 60 rows of at most 20 bytes.
    let mut out = (body.len() as u32).to_be_bytes().to_vec();
    out.extend(body);
    out
}

fn find(option: u8, opcode: u8, action: u16) -> Result<Option<&'static Row>, Sense> {
    let mut rows = ROWS.iter().filter(|r| r.opcode == opcode).peekable();
    let has_actions = rows.peek().is_some_and(|r| r.action.is_some());
    let is_known = rows.peek().is_some();
    match option {
        1 if has_actions => return Err(Sense::cdb_field(2, Some(2))),
        2 if is_known && !has_actions => return Err(Sense::cdb_field(2, Some(2))),
        _ => {}
    }
    let is_meant = |r: &&Row| {
        r.action
            .map_or(action == 0 || option == 1, |a| u16::from(a) == action)
    };
    Ok(rows.find(is_meant))
}

fn one(row: Option<&Row>, timeouts: bool) -> Vec<u8> {
    let Some(row) = row else {
        return vec![0, 0x01, 0, 0]; // not supported
    };
    let with_timeouts = if timeouts { 0x80 } else { 0 };
    // 011b: supported as the standard says.
    let mut out = vec![0, 0x03 | with_timeouts, 0, row.usage.len() as u8];
    out.extend(row.usage);
    if timeouts {
        out.extend(TIMEOUTS);
    }
    out
}

/// REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS parameter data.
pub fn report_task_functions(extended: bool, allocation: u32) -> Vec<u8> {
    // ABORT TASK, ABORT TASK SET, CLEAR TASK SET, LOGICAL UNIT RESET, TARGET RESET; none of the second byte.
    let mut out = vec![0x80 | 0x40 | 0x10 | 0x08 | 0x02, 0, 0, 0];
    if extended {
        out.resize(16, 0);
        if let Some(more) = out.get_mut(3) {
            *more = 12;
        }
    }
    cut(out, allocation)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_reported_once() {
        let data = report(0, 0, 0, false, u32::MAX).expect("all");
        assert_eq!(data.len(), 4 + ROWS.len() * 8);
        let data = report(0, 0, 0, true, u32::MAX).expect("all");
        assert_eq!(data.len(), 4 + ROWS.len() * 20);
        assert_eq!(data[4 + 5] & 2, 2, "CTDP");
    }

    #[test]
    fn one_command_shows_its_usage_map() {
        let data = report(1, 0x28, 0, false, u32::MAX).expect("READ (10)");
        assert_eq!(&data[..6], [0, 3, 0, 10, 0x28, 0x18]);
        let data = report(2, 0x9e, 0x10, true, u32::MAX).expect("READ CAPACITY (16)");
        assert_eq!((data[1], data.len()), (0x83, 4 + 16 + 12));
    }

    #[test]
    fn absent_commands_are_told_as_such() {
        assert_eq!(report(1, 0xff, 0, false, 64), Ok(vec![0, 1, 0, 0]));
        assert_eq!(report(2, 0x9e, 0x1f, false, 64), Ok(vec![0, 1, 0, 0]));
    }

    #[test]
    fn options_must_fit_the_opcode() {
        let bad = Err(Sense::cdb_field(2, Some(2)));
        assert_eq!(report(1, 0x9e, 0, false, 64), bad);
        assert_eq!(report(2, 0x28, 0, false, 64), bad);
    }
}
