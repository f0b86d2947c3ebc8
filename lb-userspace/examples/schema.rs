//! Prints the JSON Schema of the configuration file; `cargo xtask schema` writes it to config/naru.schema.json.

fn main() {
    print!("{}", lb_userspace::core::config::json_schema());
}
