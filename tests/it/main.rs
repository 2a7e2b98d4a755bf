mod admin;
mod portal;
mod surface;

#[test]
fn t() {}
