//! A connection between its socket and the volumes: all of a connection's life but the waiting.
//!
//! ```text
//!   socket ──bytes──► Link ──submit, abort──► Units     (the volumes, and how many sessions they have)
//!          ◄──bytes──  │  ◄────replies──────
//!                      └─ next: what to wait for, when to shut the socket, when it is over
//! ```
//!
//! # Contract
//!
//! - After anything that is told to the machine: [`Link::settle`], then act on [`Link::next`].
//! - A reply that is ready within `submit` or `abort` may be put into their list; all others come with [`Link::handle_rung`].
//!
//! Invariant  a peer that does not take its answers is not listened to; what is said is sent before the socket is shut.
//! Invariant  the units hear the number of sessions after one has begun and after one is gone.
//! Not here   sockets, clocks and wakers (`net`), the session itself (`session`).

use crate::payload::WirePayload;
use crate::session::{Action, Connection, Ended, Setup};
use crate::target::Target;
use crate::wire::header::Itt;
use engine::ids::Tag;
use engine::{Command, Reply};
use std::sync::Arc;

/// Replies that are to be told to a connection.
pub type Replies<P> = Vec<(Tag, Reply<P>)>;

/// Where a command comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Origin {
    /// The unit's place in its target's list.
    pub unit: u16,
    /// Comes back with the reply.
    pub tag: Tag,
    /// What the initiator calls the task that it is part of.
    pub task: Itt,
}

/// The other side of a target's units.
pub trait Units<P> {
    /// A session to this target has begun: from here on units are its units.
    fn enter(&mut self, target: &Arc<Target>);

    /// Takes a command. Replies of this connection that are ready at once may go into the list.
    fn submit(&mut self, from: Origin, command: Command<P>, replies: &mut Replies<P>);

    /// Takes a command back. Its reply (any reply) still comes, once no effect of it can follow.
    fn abort(&mut self, unit: u16, tag: Tag, replies: &mut Replies<P>);

    /// The target has so many sessions now.
    fn sessions(&mut self, count: usize);
}

/// A time limit of the driver that runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Deadline {
    /// By then the initiator has logged in, or is left.
    Login,
    /// By then the initiator has taken the last answers, or is left.
    Linger,
}

/// What the driver does next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Next {
    /// Wait for what comes; send meanwhile what [`Connection::transmit`] holds.
    Wait {
        /// Read from the socket.
        listens: bool,
        /// The time limit that runs; tell [`Link::handle_gone`] when it has passed.
        deadline: Option<Deadline>,
    },
    /// All is said: shut the socket, and tell [`Link::handle_shut`].
    Shut,
    /// The socket is of no more use; wait for replies and mail.
    Replies,
    /// Everything is answered: tell [`Link::leave`] and drop it.
    Over(Ended),
}

/// A connection's machine, and what is between it and its driver.
#[derive(Debug)]
pub struct Link<P> {
    machine: Connection<P>,
    /// Replies that the machine has not been told yet.
    replies: Replies<P>,
    target: Option<Arc<Target>>,
    /// Most bytes of answers that wait while the peer is listened to.
    unsent_max: u64,
    /// The socket is of no more use.
    is_gone: bool,
}

impl<P: WirePayload> Link<P> {
    /// A connection on which nothing was said yet.
    pub fn new(setup: Setup) -> Self {
        Self {
            unsent_max: setup.inflight_bytes,
            machine: Connection::new(setup),
            replies: Vec::new(),
            target: None,
            is_gone: false,
        }
    }

    /// The machine, to be told of bytes.
    pub const fn machine(&mut self) -> &mut Connection<P> {
        &mut self.machine
    }

    /// The machine, to be looked at.
    pub const fn state(&self) -> &Connection<P> {
        &self.machine
    }

    /// The target of the session, once it has begun.
    pub const fn target(&self) -> Option<&Arc<Target>> {
        self.target.as_ref()
    }

    /// The bell has rung; these replies came from elsewhere.
    pub fn handle_rung(&mut self, replies: &mut Replies<P>) {
        self.replies.append(replies);
        self.machine.handle_mail();
    }

    /// The peer is gone, or a deadline has passed.
    pub fn handle_gone(&mut self) {
        self.is_gone = true;
        self.machine.handle_disconnect();
    }

    /// The socket was shut.
    pub const fn handle_shut(&mut self) {
        self.is_gone = true;
    }

    /// Runs the machine's actions and tells it the replies, until neither is left.
    pub fn settle(&mut self, units: &mut impl Units<P>) {
        loop {
            while let Some(action) = self.machine.poll_action() {
                self.run(action, units);
            }
            if self.replies.is_empty() {
                return;
            }
            for (tag, reply) in self.replies.drain(..) {
                self.machine.handle_reply(tag, reply);
            }
        }
    }

    fn run(&mut self, action: Action<P>, units: &mut impl Units<P>) {
        match action {
            Action::Submit {
                unit,
                tag,
                task,
                command,
            } => {
                let from = Origin { unit, tag, task };
                units.submit(from, command, &mut self.replies);
            }
            Action::Abort { unit, tag } => units.abort(unit, tag, &mut self.replies),
            Action::Entered(target) => {
                units.enter(&target);
                units.sessions(target.session_count());
                self.target = Some(target);
            }
        }
    }

    /// What to do now.
    pub fn next(&self) -> Next {
        let is_silent = self.machine.transmit().is_empty();
        let ended = self.machine.ended();
        if let Some(why) = ended
            && self.machine.is_done()
            && (self.is_gone || is_silent)
        {
            return Next::Over(why);
        }
        if self.is_gone {
            return Next::Replies;
        }
        if ended.is_some() && is_silent {
            // The volume may still work on what was taken back; the peer need not wait for that.
            return Next::Shut;
        }
        Next::Wait {
            listens: ended.is_none() && self.machine.transmit().len() < self.unsent_max,
            deadline: self.deadline(),
        }
    }

    /// The time limit that runs. A new one begins when this changes.
    pub const fn deadline(&self) -> Option<Deadline> {
        if self.machine.ended().is_some() {
            Some(Deadline::Linger)
        } else if self.machine.is_full_feature() {
            None
        } else {
            Some(Deadline::Login)
        }
    }

    /// Says that the session is gone, if there was one.
    pub fn leave(&self, units: &mut impl Units<P>) {
        if let Some(target) = &self.target {
            units.sessions(target.session_count());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::Offer;
    use crate::target::{Doorbell, Mailbox, Node};
    use bytes::Bytes;

    #[derive(Debug)]
    struct Silent;

    impl Doorbell for Silent {
        fn ring(&self) {}
    }

    fn link() -> Link<Bytes> {
        Link::new(Setup {
            node: Arc::new(Node::default()),
            mailbox: Arc::new(Mailbox::new(Arc::new(Silent))),
            number: 1,
            entropy: [1; 32],
            portal: "127.0.0.1:3260".to_owned(),
            offer: Offer::default(),
            window: 4,
            inflight_bytes: 1 << 20,
        })
    }

    #[test]
    fn a_new_connection_is_listened_to_under_the_login_deadline() {
        let expected = Next::Wait {
            listens: true,
            deadline: Some(Deadline::Login),
        };
        assert_eq!(link().next(), expected);
    }

    #[test]
    fn what_is_said_is_sent_before_the_end() {
        let mut link = link();
        // A login without a name is answered, then ended.
        let mut header = [0; 48];
        header[0] = 0x43;
        header[1] = 0x87;
        link.machine().handle_bytes(&header);
        let Next::Wait { listens, deadline } = link.next() else {
            panic!("{:?}", link.next());
        };
        assert_eq!((listens, deadline), (false, Some(Deadline::Linger)));
        let unsent = link.state().transmit().len();
        assert!(unsent > 0, "the answer");
        link.machine().handle_sent(unsent);
        assert!(matches!(link.next(), Next::Over(Ended::LoginFailed(_))));
    }

    #[test]
    fn a_peer_that_is_gone_gets_nothing_more() {
        let mut link = link();
        link.handle_gone();
        assert_eq!(link.next(), Next::Over(Ended::Disconnected));
    }
}
