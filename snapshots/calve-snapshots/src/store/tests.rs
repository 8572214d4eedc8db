//! Life and damage of snapshots in a store.

mod crash;
mod damage;
mod drafts;
mod lifecycle;
mod opening;
mod random;
mod signing;
