//! Health: what checks have seen of a backend, and what that means.

pub mod observation;
