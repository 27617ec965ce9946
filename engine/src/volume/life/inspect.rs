//! Looking at a volume without attaching, and reading one version of it.

use super::{Inspecting, Op, Phase};
use crate::attach::Inspect;
use crate::command::{Refusal, Verdict};
use crate::effect::{Absence, Expect, Gate, GetRequest, Outcome, StoreRequest};
use crate::ids::{Hash, WishId};
use crate::object::names::ObjectName;
use crate::payload::Payload;
use crate::table::types::Root;
use crate::volume::{Pending, Volume};
use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;

impl<P: Payload> Volume<P> {
    pub(super) fn inspect(&mut self, wish: WishId, reader: Option<Option<String>>) {
        if self.own.inspecting.is_some() {
            return self.told(wish, Verdict::Refused(Refusal::Busy));
        }
        let number = self.own.number();
        let hint = self.attach_spec().hint;
        let quick = reader.is_none();
        let machine = Inspect::new(
            self.container.clone(),
            hint,
            self.limits.store_deadline,
            quick,
        );
        self.own.inspecting = Some(Inspecting {
            number,
            machine: Box::new(machine),
            wish,
            reader,
        });
    }

    pub(super) fn inspect_poll(&mut self) -> bool {
        let now = self.now;
        let mut done = false;
        while let Some(inspecting) = &mut self.own.inspecting
            && let Some((slot, request)) = inspecting.machine.poll(now)
        {
            done = true;
            let number = inspecting.number;
            self.out
                .store(Pending::Life(Op::Inspect { number, slot }), request);
        }
        done
    }

    pub(super) fn inspected(&mut self, slot: u32, outcome: Outcome<P>) {
        let now = self.now;
        let Some(inspecting) = &mut self.own.inspecting else {
            return;
        };
        let Some(result) = inspecting.machine.handle(now, slot, outcome) else {
            return;
        };
        let Some(Inspecting { wish, reader, .. }) = self.own.inspecting.take() else {
            return;
        };
        let (inspection, newest) = match result {
            Ok(found) => found,
            Err(refusal) => return self.told(wish, Verdict::Refused(refusal)),
        };
        let Some(snapshot) = reader else {
            return self.told(wish, Verdict::Inspected(inspection));
        };
        let Some(newest) = newest else {
            return self.told(wish, Verdict::Refused(Refusal::NoSuchVolume));
        };
        match snapshot {
            None => self.read_root(wish, newest.root, newest.hash),
            Some(name) => match newest.root.snapshots.iter().find(|s| s.name == name) {
                None => self.told(wish, Verdict::Refused(Refusal::NoSuchSnapshot)),
                Some(entry) if entry.root == newest.root.name => {
                    self.read_root(wish, newest.root, newest.hash)
                }
                Some(entry) => {
                    let request = StoreRequest::Get(GetRequest {
                        container: self.container.clone(),
                        name: ObjectName::Root(entry.root),
                        range: None,
                        absence: Absence::Damage,
                        deadline: self.limits.store_deadline,
                        expect: Expect::Root(None),
                    });
                    self.out
                        .store(Pending::Life(Op::SnapshotRoot { wish }), request);
                }
            },
        }
    }

    pub(super) fn read_root(&mut self, wish: WishId, root: Arc<Root>, hash: Hash) {
        self.set_geometry(root.geometry);
        self.attributes = root.attributes.clone();
        self.present.set_root(root.clone(), hash);
        self.own.phase = Phase::Reader;
        self.set_gate(Gate::Open);
        self.guest_retry();
        self.told(wish, Verdict::Reading(root));
    }
}
