//! The guard's part that answers questions: `signals.js` with the operator's data in it.
//!
//! Made once a policy, at start; nothing in it is about one visitor. Whether the browser itself sent the
//! signal is the function's argument, so both GPP strings are in it.

use super::minify::minify;
use serde_json::{Map, Value, json};

use crate::config::{SignalCookies, SignalSettings, VendorAction};
use crate::privacy::gpp::{self, Section};
use crate::registry::{How, Policy};

/// The source: one function, `signals(W, gpc)`. Lines `// #if WORD` to `// #end` are kept where WORD holds.
const SOURCE: &str = include_str!("signals.js");

/// Where the data go.
const DATA: &str = "SIGNALS_DATA";

/// What the script says, for one policy.
#[derive(Debug, Clone, PartialEq)]
pub struct Signals {
    sections: Vec<Section>,
    cookies: bool,
    onetrust_groups: Vec<String>,
    deny_analytics: bool,
    /// Calls of `gtag`, in order, each once.
    google: Vec<Value>,
    /// Other vendors' calls: global, how, arguments.
    calls: Vec<Value>,
}

impl Signals {
    /// From the settings, and the vendors that the policy keeps under `restrict`.
    #[must_use]
    pub fn of(settings: &SignalSettings, policy: &Policy) -> Self {
        let (mut google, mut calls) = (Vec::new(), Vec::new());
        let restricted =
            policy.registry().vendors().filter(|(id, _)| policy.action(*id) == VendorAction::Restrict);
        for call in restricted.flat_map(|(_, vendor)| &vendor.restricted_calls) {
            let (list, value) = match call.how {
                How::Gtag => (&mut google, call.args.clone()),
                how => (&mut calls, json!([call.global, how.as_str(), call.args])),
            };
            if !list.contains(&value) {
                list.push(value);
            }
        }
        Self {
            sections: settings.sections.clone(),
            cookies: settings.cookies != SignalCookies::Off,
            onetrust_groups: settings.onetrust_groups.clone(),
            deny_analytics: settings.deny_analytics,
            google,
            calls,
        }
    }

    fn data(&self) -> Value {
        let sections: Vec<Value> = self
            .sections
            .iter()
            .map(|section| json!([section.id(), section.as_str(), core(*section)]))
            .collect();
        let mut data = json!({
            "sections": sections,
            "gpp": [gpp::opted_out(&self.sections, false), gpp::opted_out(&self.sections, true)],
            "analytics": u8::from(self.deny_analytics),
        });
        if self.cookies {
            data["groups"] = json!(self.onetrust_groups);
        }
        if !self.google.is_empty() {
            data["google"] = json!(self.google);
        }
        if !self.calls.is_empty() {
            data["calls"] = json!(self.calls);
        }
        data
    }
}

/// A section's core as `__gpp` shows it: the words of IAB's encoder.
fn core(section: Section) -> Value {
    let mut core = Map::from_iter([("Version".to_owned(), json!(section.version()))]);
    for (name, count) in section.fields() {
        let value = Section::opted_out_value(name);
        let shown = if *count == 1 { json!(value) } else { json!(vec![value; *count]) };
        core.insert((*name).to_owned(), shown);
    }
    core.into()
}

/// The function's text: ASCII, without comments, with nothing that could end the script element.
#[must_use]
pub fn script(signals: &Signals) -> String {
    let holds = |word: &str| match word {
        "cookies" => signals.cookies,
        "google" => !signals.google.is_empty(),
        "calls" => !signals.calls.is_empty(),
        how => signals.calls.iter().any(|call| call[1] == how),
    };
    let (mut text, mut skipping) = (String::with_capacity(SOURCE.len()), Vec::new());
    for line in SOURCE.lines().map(str::trim) {
        if let Some(word) = line.strip_prefix("// #if ") {
            skipping.push(!holds(word));
        } else if line == "// #end" {
            skipping.pop();
        } else if !skipping.contains(&true) {
            text.push_str(line);
            text.push('\n');
        }
    }
    minify(&text).replacen(DATA, &signals.data().to_string(), 1)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::sync::Arc;

    use super::*;
    use crate::config::{Contract, VendorPolicy};
    use crate::registry::Registry;

    fn settings() -> SignalSettings {
        SignalSettings {
            sections: vec![Section::UsNat],
            cookies: SignalCookies::Page,
            onetrust_groups: ["C0004", "C0005", "SPD_BG", "SSPD_BG"].map(str::to_owned).to_vec(),
            deny_analytics: false,
        }
    }

    /// The script under a policy that restricts these vendors, with their contracts.
    fn restricting(vendors: &[&str]) -> String {
        let mut written = VendorPolicy::default();
        for id in vendors {
            let contract =
                Contract { entity: "Example".into(), reference: "file/1".into(), date: "2026-01-31".into() };
            written.vendors.insert((*id).to_owned(), VendorAction::Restrict);
            written.contracts.insert((*id).to_owned(), contract);
        }
        let registry = Arc::new(Registry::with_files(&[]).unwrap());
        script(&Signals::of(&settings(), &Policy::resolve(registry, &written).unwrap()))
    }

    /// ASCII, no end of its own element, small. The figure is printed.
    #[test]
    fn the_script_is_small_ascii_and_ends_no_element() {
        let text = restricting(&[]);
        assert!(text.is_ascii() && !text.contains("</") && !text.contains("<!--") && !text.contains("//"));
        assert!(text.starts_with("function signals(W,gpc){") && !text.contains(DATA));
        let mut coder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        coder.write_all(text.as_bytes()).unwrap();
        let coded = coder.finish().unwrap().len();
        println!("signals: {} bytes, {coded} gzip -9", text.len());
        assert!(coded <= 3_800, "{coded} bytes");
    }

    /// The strings of both kinds of visitor are in it, as the encoder makes them.
    #[test]
    fn the_strings_are_the_encoders() {
        let text = restricting(&[]);
        assert!(text.contains(r#"["DBABLA~CVQVAAAAAACA.QA","DBABLA~CVQVAAAAAACA.YA"]"#), "{text}");
    }

    /// Exactly the documented calls of the vendors that the policy restricts.
    #[test]
    fn only_restricted_vendors_calls_are_in_it() {
        let calls = [
            ("meta-pixel", r#"["fbq","call",["dataProcessingOptions",["LDU"],0,0]]"#),
            (
                "google-publisher-tag",
                r#"["googletag","command",["pubads","setPrivacySettings",{"restrictDataProcessing":true}]]"#,
            ),
            (
                "x-ads",
                r#"["twq","parameter",[["config","event","track"],{"restricted_data_use":"restrict_optimization"}]]"#,
            ),
        ];
        let none = restricting(&[]);
        assert!(!none.contains("\"calls\""), "{none}");
        for (id, call) in calls {
            let text = restricting(&[id]);
            assert!(text.contains(&format!("\"calls\":[{call}]")), "{id}: {text}");
        }
    }

    /// A container that stays finds its defaults denied; without one, no layer is made.
    #[test]
    fn google_is_told_only_while_a_google_tag_stays() {
        assert!(restricting(&[]).contains(r#""google":[["consent","default","#));
        let mut written = VendorPolicy::default();
        for id in ["google-tag-manager", "google-gtag"] {
            written.vendors.insert(id.to_owned(), VendorAction::Strip);
        }
        let registry = Arc::new(Registry::with_files(&[]).unwrap());
        let text = script(&Signals::of(&settings(), &Policy::resolve(registry, &written).unwrap()));
        assert!(!text.contains("dataLayer"), "{text}");
    }

    #[test]
    fn cookies_are_left_alone_where_the_operator_says_so() {
        let registry = Arc::new(Registry::with_files(&[]).unwrap());
        let policy = Policy::resolve(registry, &VendorPolicy::default()).unwrap();
        let text =
            script(&Signals::of(&SignalSettings { cookies: SignalCookies::Off, ..settings() }, &policy));
        assert!(!text.contains("OptanonConsent") && !text.contains("optgate="), "{text}");
    }
}
