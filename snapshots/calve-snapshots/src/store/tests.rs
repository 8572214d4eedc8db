//! Life and damage of snapshots in a store.

mod crash;
mod damage;
mod drafts;
mod learned;
mod lifecycle;
mod opening;
mod random;
mod signing;
