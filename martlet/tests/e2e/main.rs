//! The main job, end to end: the real program, a directory and a real Swift, real clients.
//!
//! Needs what `tests/install.sh` installs. `MARTLET_LONG=1` runs the longer variants.

mod cli;
mod clients;
mod clone;
mod costs;
mod damage;
mod gc;
mod kill;
mod local_disk;
mod main_job;
mod settings;
mod snapshot;
mod support;
mod swift_bulk;
mod swift_down;
mod swift_races;
mod tls;
mod two_hosts;
