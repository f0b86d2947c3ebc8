//! Cases in the lab: each is an outcome that a user notices.

mod harness;
