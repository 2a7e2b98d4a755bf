//! `optgate registry`: who is a tracker, and what is done about it for an opted-out visitor.

use std::io::Write;
use std::sync::Arc;

use anyhow::{Context, anyhow};
use clap::{Args, Subcommand};
use serde_json::{Value as Json, json};
use url::Url;

use super::{Failure, Global, Output, check};
use crate::config::VendorAction;
use crate::registry::{Policy, Registry, Vendor, unknown};

/// `optgate registry ...`
#[derive(Debug, Subcommand)]
pub enum RegistryCommand {
    /// List every vendor with what is done for opted-out visitors
    List(Listing),
    /// Show everything known about one vendor
    Show {
        /// Vendor id, as in `optgate registry list`
        id: String,
        /// Form and site.
        #[command(flatten)]
        listing: Listing,
    },
    /// Say which vendor a URL belongs to, by which rule, and what is done
    Match {
        /// URL, or a bare host
        url: String,
        /// Form and site.
        #[command(flatten)]
        listing: Listing,
    },
}

/// Form and site of a listing.
#[derive(Debug, Args)]
pub struct Listing {
    /// Form of the listing
    #[arg(long, value_enum, default_value_t)]
    pub output: Output,
    /// Site whose settings count; the first by default
    #[arg(long, value_name = "NAME")]
    pub site: Option<String>,
}

/// Prints what was asked for.
///
/// # Errors
/// The settings or registry files are wrong, the vendor or site is unknown, or the URL is none.
pub fn run(global: &Global, command: &RegistryCommand, out: &mut dyn Write) -> Result<(), Failure> {
    match command {
        RegistryCommand::List(listing) => list(&policy(global, listing)?, listing.output, out),
        RegistryCommand::Show { id, listing } => show(&policy(global, listing)?, id, listing.output, out),
        RegistryCommand::Match { url, listing } => {
            match_url(&policy(global, listing)?, url, listing.output, out)
        }
    }
}

/// The registry under one site's settings.
fn policy(global: &Global, listing: &Listing) -> Result<Policy, Failure> {
    let loaded = super::settings(global, Vec::new(), true)?;
    let sites = &loaded.settings.sites;
    let position = match &listing.site {
        None => Some(0),
        Some(name) => sites.iter().position(|site| site.name == *name),
    };
    let Some((position, site)) = position.and_then(|i| Some((i, sites.get(i)?))) else {
        let names: Vec<&str> = sites.iter().map(|site| site.name.as_str()).collect();
        let asked = listing.site.as_deref().unwrap_or_default();
        return Err(anyhow!("no site is named `{asked}`; the sites are: {}", names.join(", ")).into());
    };
    let registry =
        Arc::new(check::registry(&loaded.settings).map_err(|problem| Failure::Refused(vec![problem]))?);
    Policy::resolve(registry, &site.policy)
        .map_err(|error| Failure::Refused(vec![check::policy_problem(&loaded, position, &error)]))
}

fn list(policy: &Policy, output: Output, out: &mut dyn Write) -> Result<(), Failure> {
    let rows = policy.registry().vendors().map(|(id, vendor)| (vendor, policy.action(id)));
    match output {
        Output::Json => print_json(&Json::from_iter(rows.map(|(vendor, action)| row(vendor, action))), out),
        Output::Text => {
            let rows: Vec<_> = rows.collect();
            let width =
                |pick: fn(&Vendor) -> &str| rows.iter().map(|(v, _)| pick(v).len()).max().unwrap_or(0);
            let (ids, roles) = (width(|v| &v.id), width(|v| v.role.as_str()));
            for (vendor, action) in &rows {
                let (role, action) = (vendor.role.as_str(), action.as_str());
                writeln!(out, "{:ids$}  {action:8}  {role:roles$}  {}", vendor.id, vendor.product)?;
            }
            Ok(())
        }
    }
}

fn row(vendor: &Vendor, action: VendorAction) -> Json {
    json!({
        "id": vendor.id,
        "vendor": vendor.vendor,
        "product": vendor.product,
        "role": vendor.role,
        "category": vendor.category,
        "action": action.as_str(),
    })
}

fn show(policy: &Policy, id: &str, output: Output, out: &mut dyn Write) -> Result<(), Failure> {
    let registry = policy.registry();
    let Some(position) = registry.lookup_id(id) else {
        let next = registry.nearest_id(id).map_or_else(
            || "`optgate registry list` shows all".to_owned(),
            |near| format!("did you mean `{near}`?"),
        );
        return Err(anyhow!("the registry has no vendor `{id}`; {next}").into());
    };
    let mut facts =
        serde_json::to_value(registry.vendor(position)).context("cannot write the entry as JSON")?;
    if let Json::Object(table) = &mut facts {
        table.insert("action".to_owned(), Json::from(policy.action(position).as_str()));
    }
    match output {
        Output::Json => print_json(&facts, out),
        Output::Text => print_facts(&facts, out),
    }
}

/// One fact a line; lists one element a line, with the name on the first.
fn print_facts(facts: &Json, out: &mut dyn Write) -> Result<(), Failure> {
    for (name, value) in facts.as_object().into_iter().flatten() {
        let lines: Vec<String> = match value {
            Json::Null => Vec::new(),
            Json::Array(list) => list.iter().map(plain).collect(),
            single => vec![plain(single)],
        };
        for (i, line) in lines.iter().enumerate() {
            writeln!(out, "{:20}  {line}", if i == 0 { name } else { "" })?;
        }
    }
    Ok(())
}

fn plain(value: &Json) -> String {
    match value {
        Json::String(text) => text.clone(),
        // A host with its paths.
        Json::Object(rule) => {
            let paths = rule.get("paths").and_then(Json::as_array).into_iter().flatten();
            let paths: Vec<&str> = paths.filter_map(Json::as_str).collect();
            format!("{} {}", rule.get("host").and_then(Json::as_str).unwrap_or_default(), paths.join(" "))
        }
        other => other.to_string(),
    }
}

fn match_url(policy: &Policy, written: &str, output: Output, out: &mut dyn Write) -> Result<(), Failure> {
    let registry: &Registry = policy.registry();
    let (host, path) = host_and_path(written)?;
    let found = registry.explain(&host, &path).zip(policy.match_url(&host, &path));
    let unknown = if found.is_none() { policy.match_unknown(&host, "") } else { None };
    match (output, found) {
        (Output::Json, Some((rule, hit))) => print_json(
            &json!({
                "url": written,
                "vendor": rule.id,
                "role": rule.role,
                "action": hit.action.as_str(),
                "rule": { "host": rule.host, "path": rule.path },
            }),
            out,
        ),
        (Output::Json, None) if unknown.is_some() => print_json(
            &json!({ "url": written, "vendor": unknown::VENDOR, "action": "strip", "rule": null }),
            out,
        ),
        (Output::Text, None) if unknown.is_some() => {
            writeln!(
                out,
                "{}  strip  no rule for {host}{path}, and neither a host of the site's own nor in `known`",
                unknown::VENDOR
            )?;
            Ok(())
        }
        (Output::Json, None) => print_json(&json!({ "url": written, "vendor": null }), out),
        (Output::Text, Some((rule, hit))) => {
            let (role, action) = (rule.role.as_str(), hit.action.as_str());
            writeln!(out, "{}  {action}  {role}  by rule {}{}", rule.id, rule.host, rule.path)?;
            Ok(())
        }
        (Output::Text, None) => {
            writeln!(out, "unknown  allow  no rule for {host}{path}")?;
            Ok(())
        }
    }
}

/// Host and path with query, as the registry is asked; a bare host counts as its `https` root.
fn host_and_path(written: &str) -> Result<(String, String), Failure> {
    let whole = match written.strip_prefix("//") {
        Some(rest) => format!("https://{rest}"),
        None if written.contains("://") => written.to_owned(),
        None => format!("https://{written}"),
    };
    let url = Url::parse(&whole).map_err(|error| anyhow!("`{written}` is no URL: {error}"))?;
    let Some(host) = url.host_str() else { return Err(anyhow!("`{written}` has no host").into()) };
    let path = match url.query() {
        Some(query) => format!("{}?{query}", url.path()),
        None => url.path().to_owned(),
    };
    Ok((host.trim_end_matches('.').to_owned(), path))
}

fn print_json(value: &Json, out: &mut dyn Write) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value).context("cannot write the listing as JSON")?;
    writeln!(out, "{text}")?;
    Ok(())
}
