#![allow(clippy::cast_possible_truncation)] // numbers of a test are small

mod closing;
mod connecting;
mod guest;
mod hostile;
mod saving;
mod streams;
mod units;
