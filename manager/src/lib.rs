//! The function host: tenants, functions, and every decision about *which* machine serves a request and *when*.
//!
//! ```text
//!  HTTP ──► api ──► control ──► catalog ──► ledger          functions, versions, aliases; durable
//!            │         └──► builds ──► engine               a version becomes a snapshot
//!            └──► invoke ──► schedule ──► machines ──► engine    a call finds its machine
//!                   ▲           (pure)
//!                 queue ◄── ledger                          asynchronous calls and events
//! ```
//!
//! | module | what it is |
//! | --- | --- |
//! | [`model`] | functions as the host knows them |
//! | [`ledger`] | what survives a crash: the trait, and SQLite behind it |
//! | [`schedule`] | which machine serves a request: pure, and tested as such |
//! | [`dispatch`] | does what the scheduler says |
//! | [`auth`] | who is asking |
//! | [`events`] | files, schedules and queues become messages |
//! | [`package`] | uploaded zip files become folders |
//! | [`idempotent`] | work that is unchanged is not done again |
//! | [`metrics`] | what the host counts and measures |
//! | [`clock`] | what time it is |
//! | [`engine`] | what runs functions: the trait, and the fleet behind it |

pub mod api;
pub mod auth;
pub mod catalog;
pub mod clock;
pub mod codes;
pub mod control;
pub mod dispatch;
pub mod engine;
pub mod events;
mod full;
mod held;
pub mod host;
pub mod idempotent;
pub mod invoke;
pub mod ledger;
pub mod metrics;
pub mod model;
pub mod package;
mod queue;
pub mod schedule;
