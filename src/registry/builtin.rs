//! The files compiled into the binary.

macro_rules! files {
    ($($name:literal),+ $(,)?) => {
        &[$((
            concat!("config/registry/", $name),
            include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/config/registry/", $name)),
        )),+]
    };
}

/// Names and texts, one layer together.
pub(super) const FILES: &[(&str, &str)] = files![
    "tag_managers.toml",
    "advertising.toml",
    "retargeting.toml",
    "social.toml",
    "data_brokers.toml",
    "analytics.toml",
    "session_replay.toml",
    "cdp.toml",
    "essential.toml",
    "cookies.toml",
    "link_params.toml",
    "collectors.toml",
    "mixed_use.toml",
    "lists.toml",
];
