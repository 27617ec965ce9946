//! Sense data and SCSI status: what went wrong, and the one table that says so for the volume's failures.

use engine::command::Failure;

/// SCSI status codes. SAM-5 §5.3.1, "Status codes".
pub mod status {
    #![allow(missing_docs)] // the names are the standard's
    pub const GOOD: u8 = 0x00;
    pub const CHECK_CONDITION: u8 = 0x02;
    pub const BUSY: u8 = 0x08;
    pub const RESERVATION_CONFLICT: u8 = 0x18;
    pub const TASK_SET_FULL: u8 = 0x28;
    pub const TASK_ABORTED: u8 = 0x40;
}

/// Where in the CDB or the parameter list a bad field begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FieldPointer {
    /// In the CDB; else in the parameter list.
    pub in_cdb: bool,
    /// The byte.
    pub byte: u16,
    /// The most significant bit of the field in that byte, if it does not fill it.
    pub bit: Option<u8>,
}

/// Sense key, additional sense code and qualifier, and what goes with them. SPC-4 §4.5, "Sense data".
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sense {
    /// Sense key, 0 to 15.
    pub key: u8,
    /// Additional sense code (upper byte) and qualifier.
    pub code: u16,
    /// The INFORMATION field: an LBA or an offset.
    pub information: Option<u64>,
    /// The bad field.
    pub field: Option<FieldPointer>,
}

const fn sense(key: u8, code: u16) -> Sense {
    Sense {
        key,
        code,
        information: None,
        field: None,
    }
}

const NOT_READY: u8 = 0x2;
const MEDIUM_ERROR: u8 = 0x3;
const HARDWARE_ERROR: u8 = 0x4;
const ILLEGAL_REQUEST: u8 = 0x5;
const UNIT_ATTENTION: u8 = 0x6;
const DATA_PROTECT: u8 = 0x7;
const COPY_ABORTED: u8 = 0xa;
const ABORTED_COMMAND: u8 = 0xb;
const MISCOMPARE: u8 = 0xe;

#[allow(missing_docs)] // the names are the standard's: SPC-4 annex F.2, "Additional sense codes"
impl Sense {
    pub const NONE: Self = sense(0, 0);
    pub const MANUAL_INTERVENTION_REQUIRED: Self = sense(NOT_READY, 0x0403);
    pub const MEDIUM_NOT_PRESENT: Self = sense(NOT_READY, 0x3a00);
    pub const UNRECOVERED_READ_ERROR: Self = sense(MEDIUM_ERROR, 0x1100);
    pub const INTERNAL_TARGET_FAILURE: Self = sense(HARDWARE_ERROR, 0x4400);
    pub const PARAMETER_LIST_LENGTH_ERROR: Self = sense(ILLEGAL_REQUEST, 0x1a00);
    pub const INVALID_OPCODE: Self = sense(ILLEGAL_REQUEST, 0x2000);
    pub const LBA_OUT_OF_RANGE: Self = sense(ILLEGAL_REQUEST, 0x2100);
    pub const INVALID_FIELD_IN_CDB: Self = sense(ILLEGAL_REQUEST, 0x2400);
    pub const LUN_NOT_SUPPORTED: Self = sense(ILLEGAL_REQUEST, 0x2500);
    pub const INVALID_FIELD_IN_PARAMETERS: Self = sense(ILLEGAL_REQUEST, 0x2600);
    pub const TOO_MANY_TARGET_DESCRIPTORS: Self = sense(ILLEGAL_REQUEST, 0x2606);
    pub const UNSUPPORTED_TARGET_DESCRIPTOR: Self = sense(ILLEGAL_REQUEST, 0x2607);
    pub const TOO_MANY_SEGMENT_DESCRIPTORS: Self = sense(ILLEGAL_REQUEST, 0x2608);
    pub const UNSUPPORTED_SEGMENT_DESCRIPTOR: Self = sense(ILLEGAL_REQUEST, 0x2609);
    pub const INLINE_DATA_TOO_LONG: Self = sense(ILLEGAL_REQUEST, 0x260b);
    pub const COPY_ABORTED: Self = sense(COPY_ABORTED, 0x0000);
    pub const UNREACHABLE_COPY_TARGET: Self = sense(COPY_ABORTED, 0x0804);
    pub const COPY_TARGET_NOT_REACHABLE: Self = sense(COPY_ABORTED, 0x0d02);
    pub const INVALID_RELEASE: Self = sense(ILLEGAL_REQUEST, 0x2604);
    pub const SAVING_NOT_SUPPORTED: Self = sense(ILLEGAL_REQUEST, 0x3900);
    pub const REMOVAL_PREVENTED: Self = sense(ILLEGAL_REQUEST, 0x5302);
    pub const INSUFFICIENT_REGISTRATION_RESOURCES: Self = sense(ILLEGAL_REQUEST, 0x5504);
    pub const INVALID_FIELD_IN_INFORMATION_UNIT: Self = sense(ILLEGAL_REQUEST, 0x0e03);
    pub const MEDIUM_MAY_HAVE_CHANGED: Self = sense(UNIT_ATTENTION, 0x2800);
    pub const POWER_ON: Self = sense(UNIT_ATTENTION, 0x2900);
    pub const BUS_DEVICE_RESET: Self = sense(UNIT_ATTENTION, 0x2903);
    pub const MODE_PARAMETERS_CHANGED: Self = sense(UNIT_ATTENTION, 0x2a01);
    pub const RESERVATIONS_PREEMPTED: Self = sense(UNIT_ATTENTION, 0x2a03);
    pub const RESERVATIONS_RELEASED: Self = sense(UNIT_ATTENTION, 0x2a04);
    pub const REGISTRATIONS_PREEMPTED: Self = sense(UNIT_ATTENTION, 0x2a05);
    pub const CAPACITY_CHANGED: Self = sense(UNIT_ATTENTION, 0x2a09);
    pub const COMMANDS_CLEARED: Self = sense(UNIT_ATTENTION, 0x2f00);
    pub const WRITE_PROTECTED: Self = sense(DATA_PROTECT, 0x2700);
    pub const SOFTWARE_WRITE_PROTECTED: Self = sense(DATA_PROTECT, 0x2702);
    pub const DATA_PHASE_ERROR: Self = sense(ABORTED_COMMAND, 0x4b00);
    pub const DATA_DIGEST_ERROR: Self = sense(ABORTED_COMMAND, 0x4705);
    pub const MISCOMPARE_DURING_VERIFY: Self = sense(MISCOMPARE, 0x1d00);
}

impl Sense {
    /// INVALID FIELD IN CDB, pointing at a byte and perhaps its bit.
    pub const fn cdb_field(byte: u16, bit: Option<u8>) -> Self {
        Self::INVALID_FIELD_IN_CDB.pointing(true, byte, bit)
    }

    /// INVALID FIELD IN PARAMETER LIST, pointing at a byte and perhaps its bit.
    pub const fn parameter_field(byte: u16, bit: Option<u8>) -> Self {
        Self::INVALID_FIELD_IN_PARAMETERS.pointing(false, byte, bit)
    }

    const fn pointing(mut self, in_cdb: bool, byte: u16, bit: Option<u8>) -> Self {
        self.field = Some(FieldPointer { in_cdb, byte, bit });
        self
    }

    /// Whether it is a unit attention.
    pub const fn is_attention(&self) -> bool {
        self.key == UNIT_ATTENTION
    }

    /// With an INFORMATION field.
    #[must_use]
    pub const fn with_information(mut self, value: u64) -> Self {
        self.information = Some(value);
        self
    }

    /// The bytes, in the format that the control mode page asks for (D_SENSE).
    pub fn emit(&self, descriptor: bool) -> Vec<u8> {
        if descriptor {
            self.emit_descriptor()
        } else {
            self.emit_fixed()
        }
    }

    /// SPC-4 §4.5.3, "Fixed format sense data".
    fn emit_fixed(&self) -> Vec<u8> {
        let [asc, ascq] = self.code.to_be_bytes();
        // The field has four bytes; a value that needs more is not valid there.
        let information = self.information.and_then(|i| u32::try_from(i).ok());
        let valid = if information.is_some() { 0x80 } else { 0 };
        let [i0, i1, i2, i3] = information.unwrap_or(0).to_be_bytes();
        let [s0, s1, s2] = self.sense_key_specific();
        vec![
            0x70 | valid,
            0,
            self.key,
            i0,
            i1,
            i2,
            i3,
            10,
            0,
            0,
            0,
            0,
            asc,
            ascq,
            0,
            s0,
            s1,
            s2,
        ]
    }

    /// SPC-4 §4.5.2, "Descriptor format sense data".
    fn emit_descriptor(&self) -> Vec<u8> {
        let [asc, ascq] = self.code.to_be_bytes();
        let mut out = vec![0x72, self.key, asc, ascq, 0, 0, 0, 0];
        if let Some(information) = self.information {
            out.extend([0x00, 0x0a, 0x80, 0]);
            out.extend(information.to_be_bytes());
        }
        if self.field.is_some() {
            let [a, b, c] = self.sense_key_specific();
            out.extend([0x02, 0x06, 0, 0, a, b, c, 0]);
        }
        // At most 8 + 12 + 8 bytes.
        let more = out.len().saturating_sub(8) as u8;
        if let Some(length) = out.get_mut(7) {
            *length = more;
        }
        out
    }

    /// SPC-4 §4.5.2.4.2, "Field pointer sense key specific data".
    fn sense_key_specific(&self) -> [u8; 3] {
        let Some(field) = self.field else {
            return [0; 3];
        };
        let place = if field.in_cdb { 0x40 } else { 0 };
        let bit = field.bit.map_or(0, |b| 0x08 | (b & 7));
        let [high, low] = field.byte.to_be_bytes();
        [0x80 | place | bit, high, low]
    }
}

/// What the initiator hears of a volume's failure: status and sense. The one place that decides it.
///
/// Trouble of the store or of load is never here: it is `Reply::Busy`, and BUSY.
pub const fn sense_for(failure: Failure) -> (u8, Option<Sense>) {
    let sense = match failure {
        Failure::OutOfRange => Sense::LBA_OUT_OF_RANGE,
        Failure::ReadOnly => Sense::WRITE_PROTECTED,
        Failure::Fenced => Sense::MANUAL_INTERVENTION_REQUIRED,
        Failure::Damaged { at } => Sense::UNRECOVERED_READ_ERROR.with_information(at.0),
        Failure::Hardware => Sense::INTERNAL_TARGET_FAILURE,
        Failure::Invalid => Sense::INVALID_FIELD_IN_CDB,
        Failure::Aborted => return (status::TASK_ABORTED, None),
    };
    (status::CHECK_CONDITION, Some(sense))
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::units::Lba;

    #[test]
    fn fixed_format_holds_code_field_and_information() {
        let sense = Sense::cdb_field(1, Some(4));
        assert_eq!(
            sense.emit(false),
            [
                0x70, 0, 5, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x24, 0, 0, 0xcc, 0, 1
            ]
        );
        let sense = Sense::MISCOMPARE_DURING_VERIFY.with_information(0x0102);
        assert_eq!(&sense.emit(false)[..7], [0xf0, 0, 0xe, 0, 0, 1, 2]);
    }

    #[test]
    fn descriptor_format_holds_an_information_of_eight_bytes() {
        let sense = Sense::UNRECOVERED_READ_ERROR.with_information(1 << 40);
        assert_eq!(
            sense.emit(true),
            [
                0x72, 3, 0x11, 0, 0, 0, 0, 12, 0, 10, 0x80, 0, 0, 0, 1, 0, 0, 0, 0, 0
            ]
        );
        assert_eq!(sense.emit(false)[0], 0x70, "too large for four bytes");
    }

    #[test]
    fn damage_is_a_medium_error_of_that_block_only() {
        let (status, sense) = sense_for(Failure::Damaged { at: Lba(9) });
        let sense = sense.expect("sense");
        assert_eq!((status, sense.key, sense.information), (2, 3, Some(9)));
    }
}
