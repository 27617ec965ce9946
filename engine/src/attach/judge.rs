//! Whom an attempt may follow (steps 2 and 2b), and what it goes on from (step 7).

use super::find::{self, Survey};
use super::{Attach, End, FLUSH_ATTRIBUTE, FLUSH_STORE, Found, Step};
use crate::command::{Held, Refusal};
use crate::effect::Token;
use crate::ids::Generation;
use crate::table::types::RootKind;
use crate::time::Instant;
use alloc::boxed::Box;
use alloc::vec::Vec;

impl Attach {
    /// Steps 2 and 2b for what step 1 found.
    pub(super) fn judge(&mut self, survey: Survey) {
        self.superblock = survey.superblock;
        self.highest = survey.claim;
        self.read = survey.found.newest.clone();
        if self.superblock.is_none() && !self.how.finish {
            return self.over(End::Refused(Refusal::NoSuchVolume));
        }
        match self.verdict(survey.opened.as_ref(), &survey.found) {
            Ok(took_over) => {
                self.took_over = took_over;
                self.below = survey.opened;
                self.enter(Step::Shut);
            }
            Err(end) => self.over(*end),
        }
    }

    /// Whether we may follow this attachment. `Ok(true)`: by taking over.
    fn verdict(&mut self, opened: Option<&Token>, found: &Found) -> Result<bool, Box<End>> {
        let id = opened.map(|token| token.attach);
        let meant = *self.meant.get_or_insert(id) == id;
        let (Some(token), Some(newest)) = (opened, &found.newest) else {
            return match self.how.finish {
                true => Ok(false),
                false => Err(Box::new(End::Refused(Refusal::WrongState("not born yet")))),
            };
        };
        let root = &newest.root;
        if root.kind == RootKind::Deleted {
            return match self.how.finish {
                true => Ok(false),
                false => Err(Box::new(End::Refused(Refusal::NoSuchVolume))),
            };
        }
        let is_detached = found.is_own && root.kind == RootKind::Detached;
        if is_detached || self.spec.drawn.contains(&token.attach) {
            return Ok(false);
        }
        let loses = root.attributes.get(FLUSH_ATTRIBUTE).map(Vec::as_slice) != Some(FLUSH_STORE);
        if self.how.take_over && meant && (self.how.accept_loss || !loses) {
            mark!("taken-over");
            return Ok(true);
        }
        Err(Box::new(End::Held(Held {
            generation: token.attach.generation,
            holder: token.holder.clone(),
            newest: root.name,
            newest_at: root.created,
            needs_accept_loss: loses,
        })))
    }

    /// Step 7: behind our door, the highest opened below and its newest root, PUT again until confirmed.
    pub(super) fn find_base(&mut self, now: Instant) -> Option<()> {
        let judged = self
            .below
            .as_ref()
            .map_or(Generation(0), |o| o.attach.generation);
        let top = Generation(self.token.attach.generation.0.saturating_sub(1));
        // One above us is no matter here: the look of step 9 will see its door.
        let (between, _) = find::highest_opened(&mut self.desk, top, judged)?;
        let below = between.clone().or_else(|| self.below.clone());
        let found = match &below {
            Some(_) if between.is_none() && bug!("roots-before-the-door") => Found {
                newest: self.read.clone(),
                is_own: true,
            },
            Some(token) => {
                let (hint, read) = (self.spec.hint.root, self.read.as_ref());
                find::newest(&mut self.desk, token, hint, read)?
            }
            None => Found::default(),
        };
        if between.is_some() {
            mark!("opened-between");
            // Somebody opened a lower number after step 2: judge again, now for good.
            match self.verdict(below.as_ref(), &found) {
                Ok(took_over) => self.took_over = took_over,
                Err(end) => {
                    mark!("judged-otherwise-at-the-base");
                    self.over(*end);
                    return Some(());
                }
            }
        }
        if let Some(newest) = &found.newest {
            let parent = newest.root.parent;
            if let Some((name, hash)) = parent {
                // Absent: superseded and collected. Other bytes than its child vouches for: damage, and the end.
                self.desk.root(name, Some(hash))?;
            }
            self.desk.put_root_again(&newest.root)?;
            self.spec.hint.root = Some(newest.root.name);
        }
        if self
            .began
            .is_some_and(|began| now.since(began) > self.spec.attempt_max)
        {
            // What step 1 found is too old to be a floor.
            mark!("attempt-takes-too-long");
            self.lose(now);
            return Some(());
        }
        self.token.base = found.newest.as_ref().map(|newest| newest.root.name);
        self.below = below;
        self.base = found.newest;
        self.enter(Step::Join(false));
        Some(())
    }
}
