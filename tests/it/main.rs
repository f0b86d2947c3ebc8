//! All integration cases, one binary.

mod lab;
