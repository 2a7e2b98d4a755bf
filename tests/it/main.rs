mod bodies;
mod heads;
mod html_fixtures;
mod registry;

#[test]
fn t() {}
