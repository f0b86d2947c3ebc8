//! All integration cases, one binary.

mod flow_table;
mod packets;
