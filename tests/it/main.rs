mod registry;

#[test]
fn t() {}
