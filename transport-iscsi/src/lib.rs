//! iSCSI and SCSI as pure machines, and a thin tokio front.
