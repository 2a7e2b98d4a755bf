//! What the settings may hold and the law may not: said at a start, by a reload and by `check`; nothing is refused.

use std::sync::Arc;

use super::{LinkTitle, PathRule, Settings, Site, UNKNOWN_VENDOR, VendorAction};

impl Settings {
    /// Each a whole sentence or two, with what to do.
    #[must_use]
    pub fn warnings(&self) -> Vec<&'static str> {
        let mut warnings = Vec::new();
        if self.portal.link == LinkTitle::PrivacyChoices && self.portal.limit_url.is_none() {
            warnings.push(
                "`portal.link = \"privacy-choices\"` is the title of a page with both rights (11 CCR 7015(b)), and \
                 Optgate's page offers the opt-out alone: set `portal.limit_url` to the form for the right to limit \
                 the use of sensitive personal information, or write `portal.link = \"do-not-sell\"`",
            );
        }
        let strips = |action: &VendorAction| *action != VendorAction::Allow;
        let of_path = |path: &PathRule| path.vendors.get(UNKNOWN_VENDOR).is_some_and(strips);
        let in_use = |site: &Arc<Site>| site.strips_unknown() || site.paths.iter().any(of_path);
        let any = self.sites.iter().any(|site| !site.policy.known.is_empty());
        if any && !self.sites.iter().any(in_use) {
            warnings.push(
                "`known` names third parties that stay where others go as unknown, and with `unknown = \"allow\"` none \
                 goes: it has no effect until you write `unknown = \"strip\"`",
            );
        }
        if self.trusted_proxies.iter().any(|network| network.prefix_len() == 0) {
            warnings.push(
                "`trusted_proxies` has everybody in it, so that anybody can say who they are, by which scheme they came and \
                 whose account is theirs: name the networks of your own proxies",
            );
        }
        if self.tls.listen.is_empty() && !self.tls.certificates.is_empty() {
            warnings.push(
                "`tls.certificates` names certificates that nobody is shown: write `tls.listen = [\"0.0.0.0:443\"]` to serve \
                 with them",
            );
        }
        let shared = self.store.shared.iter();
        let databases = shared.flat_map(|shared| std::iter::once(&shared.url).chain(&shared.read_url));
        if databases.into_iter().any(|url| !url.is_private()) {
            warnings.push(
                "`store.url` or `store.read_url` reaches its database over a network, and nobody looks at its certificate: who \
                 is on the way can read what nodes record, and keep opt-outs from each other. Add \
                 ?sslmode=verify-full&sslrootcert=FILE",
            );
        }
        warnings
    }
}
