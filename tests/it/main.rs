//! All integration cases, one binary.

mod documents;
mod flow_table;
mod lab;
mod laws;
mod packets;
mod scenarios;
mod vrrp;
