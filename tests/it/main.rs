//! All integration cases, one binary.

mod flow_table;
mod lab;
mod packets;
mod scenarios;
