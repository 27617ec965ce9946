//! Where records go: places in the head file, new files, files made ahead.

use super::{Class, File, Flight, Journal, Op, Place, RESERVE};
use crate::effect::DiskRequest;
use crate::ids::{AttachId, FileId, Lap, Seq};
use crate::journal::record::{PAGE_BYTES, RecordBefore, RecordBody, RecordHead};
use crate::payload::{Parts, Payload};
use crate::slots::Out;
use crate::volume::Pending;

impl<P: Payload> Journal<P> {
    /// Gives every waiting record a place, in order, as far as there is one.
    pub(super) fn place_waiting(&mut self, out: &mut Out<P>) {
        let first = self.flight.iter().position(|flight| flight.place.is_none());
        let Some(first) = first else { return };
        for index in first..self.flight.len() {
            let Some(flight) = self.flight.get(index) else {
                return;
            };
            if flight.place.is_some() {
                continue;
            }
            let (needed, class) = (pages_of(flight), flight.class);
            let Some(place) = self.allocate(out, needed, class) else {
                if self.creating.is_none() {
                    self.no_place(out, index);
                }
                return;
            };
            self.emit_append(out, index, place);
        }
    }

    /// There is no place for the record and none is coming: its write fails, its seq becomes void.
    pub(super) fn no_place(&mut self, out: &mut Out<P>, index: usize) {
        let Some(flight) = self.flight.get_mut(index) else {
            return;
        };
        if flight.voided {
            // Not even a void has a place.
            mark!("void-without-a-place");
            return self.make_read_only();
        }
        self.flight_bytes -= flight.data.len().0;
        mark!("void");
        flight.voided = true;
        flight.class = Class::Own;
        flight.body = RecordBody::Void;
        flight.data = Parts::default();
        self.place_waiting(out);
    }

    pub(super) fn emit_append(&mut self, out: &mut Out<P>, index: usize, place: Place) {
        let (attach, durable) = (self.attach, self.durable);
        let (Some(flight), Some(file)) =
            (self.flight.get_mut(index), self.files.get_mut(&place.file))
        else {
            return;
        };
        flight.place = Some(place);
        let head = head_of(file, place, flight.seq, durable, attach, &flight.body);
        out.append(
            Pending::Journal(Op::Append {
                seq: flight.seq,
                attempt: flight.attempt,
                file: place.file,
            }),
            place.file,
            u64::from(place.page) * u64::from(PAGE_BYTES),
            head,
            flight.data.clone(),
        );
    }

    /// Takes pages at the head of the journal, opening the next file when the head has no room.
    pub(super) fn allocate(&mut self, out: &mut Out<P>, pages: u32, class: Class) -> Option<Place> {
        loop {
            if let Some(head) = self.head {
                let file_pages = self.file_pages;
                let file = self.files.get_mut(&head)?;
                if !file.closed && file.next_page + pages <= file_pages {
                    let page = file.next_page;
                    file.next_page += pages;
                    return Some(Place { file: head, page });
                }
                file.closed = true;
                self.head = None;
                self.seal(out, head);
                self.recycle(out);
            }
            let reserve = if class == Class::Guest { RESERVE } else { 0 };
            if self.ready.len() <= reserve {
                return None;
            }
            let next = self.open_ready()?;
            self.create_ahead(out);
            self.order.push_back(next);
            self.head = Some(next);
        }
    }

    /// Takes a free file into use under a new lap.
    pub(super) fn open_ready(&mut self) -> Option<FileId> {
        let next = self.ready.pop_first()?;
        self.lap = Lap(self.lap.0 + u64::from(!bug!("lap-is-not-raised")));
        self.files.insert(next, File::new(self.lap));
        Some(next)
    }

    /// Keeps the reserve and one file more ready, so that a write seldom waits for one to be made.
    pub(super) fn create_ahead(&mut self, out: &mut Out<P>) {
        if self.ready.len() > RESERVE
            || self.creating.is_some()
            || self.create_failed
            || self.files.len() >= self.files_max
        {
            return;
        }
        let file = self.next_file;
        self.next_file = FileId(file.0 + 1);
        self.creating = Some(file);
        self.files.insert(file, File::new(Lap(0)));
        out.disk(
            Pending::Journal(Op::Create { file }),
            DiskRequest::CreateFile {
                file,
                bytes: self.file_bytes,
            },
        );
    }
}

/// The head of a record at `place`, and the file's account of it.
pub(super) fn head_of(
    file: &mut File,
    place: Place,
    seq: Seq,
    durable: Seq,
    attach: AttachId,
    body: &RecordBody,
) -> RecordHead {
    let before = file.before.replace(RecordBefore {
        seq,
        extents: body.extents(),
    });
    let head = RecordHead {
        seq,
        durable,
        attach,
        file: place.file,
        lap: file.lap,
        page: place.page,
        body: body.clone(),
        before,
    };
    file.last_seq = file.last_seq.max(seq);
    file.ops += 1;
    if !file.indexed {
        file.records.push(head.clone());
    }
    head
}

pub(super) fn pages_of<P: Payload>(flight: &Flight<P>) -> u32 {
    pages(flight.data.len().0)
}

/// Pages of a record with so many bytes of data.
pub(super) fn pages(data_bytes: u64) -> u32 {
    // A record carries at most 1 MiB.
    1 + data_bytes.div_ceil(u64::from(PAGE_BYTES)) as u32
}
