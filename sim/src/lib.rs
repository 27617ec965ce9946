//! The simulator: proves the promises on a disk that forgets and a store that misbehaves.
//!
//! It drives the shipping engine and nothing like it, in virtual time, with every choice drawn from a seed.
//! Reading order: `choice` (every die), `config` (the swarm), `world` (the loop), `act` (what effects do), `initiator`
//! and `operator` (who asks), `iscsi` (how guests reach the engine), `disk` and `store` (what misbehaves), `oracle` (what must hold), `shrink` (why it failed).

pub mod accept;
pub mod casefile;
pub mod choice;
pub mod config;
pub mod disk;
pub mod exhaustive;
pub mod model;
pub mod oracle;
pub mod payload;
pub mod reach;
pub mod restorer;
pub mod run;
pub mod seat;
pub mod shrink;
pub mod store;
pub mod trace;
pub mod workload;
pub mod world;
pub mod zoo;

mod act;
mod clone;
mod initiator;
mod iscsi;
mod lasting;
mod observe;
mod operator;
mod retry;
mod rot;
mod wire;
