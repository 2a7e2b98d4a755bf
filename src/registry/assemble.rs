//! Files become one registry: layers merged, what needs several entries checked, indexes built.

use std::collections::HashMap;

use sha2::{Digest, Sha256};

use super::collectors::CollectorRule;
use super::error::{Fault, Place, RegistryError};
use super::host_index::{HostIndex, Rule};
use super::hosts;
use super::markers::MarkerIndex;
use super::names::NameIndex;
use super::pattern::{PathPrefix, glob};
use super::source::{self, At, Collector, Entry};
use super::vendor::{Role, VendorId};
use super::{Registry, SharedRule};
use crate::config::nearest::nearest;

/// A file's name and text.
pub(super) type Named<'a> = (&'a str, &'a str);

/// Everything said so far, with the number of the file that said it.
#[derive(Default)]
struct Merged {
    entries: Vec<(usize, Entry)>,
    positions: HashMap<String, usize>,
    collectors: Vec<(usize, At<Collector>)>,
    never_delete: Vec<String>,
    mixed_use: Vec<String>,
    person_params: Vec<String>,
}

/// Builds a registry from layers of files. Within a layer an id stands once; a later layer's entry
/// replaces an earlier one of the same id.
pub(super) fn assemble(layers: &[&[Named<'_>]]) -> Result<Registry, RegistryError> {
    let files: Vec<Named<'_>> = layers.iter().flat_map(|layer| layer.iter().copied()).collect();
    let place = |file: usize, offset: usize| {
        let (name, text) = files.get(file).copied().unwrap_or_default();
        Place::of(name, text, offset)
    };
    let mut merged = Merged::default();
    let mut number = 0;
    for layer in layers {
        let first_of_layer = number;
        for (name, text) in *layer {
            merge(&mut merged, source::parse(name, text)?, number, first_of_layer, &place)?;
            number += 1;
        }
    }
    if merged.entries.len() > usize::from(u16::MAX) {
        return Err(RegistryError::new(place(number - 1, 0), Fault::TooMany));
    }
    check_mixed_use(&merged, &place)?;
    let (index, shared) = index_hosts(&merged, &place)?;
    let collectors = name_collectors(&merged, &place)?;
    let version = version(&merged);
    let vendors: Vec<_> = merged.entries.into_iter().map(|(_, entry)| entry.vendor).collect();
    let markers =
        MarkerIndex::build(&vendors).ok_or_else(|| RegistryError::new(place(0, 0), Fault::TooMany))?;
    let (mut cookies, mut params) = (NameIndex::default(), NameIndex::default());
    for (at, vendor) in vendors.iter().enumerate() {
        vendor.first_party_cookies.iter().for_each(|name| cookies.add(name, Some(id(at))));
        vendor.link_params.iter().for_each(|name| params.add(name, Some(id(at))));
    }
    let (mut never_delete, mut person_params) = (NameIndex::default(), NameIndex::default());
    merged.never_delete.iter().for_each(|name| never_delete.add(name, None));
    merged.person_params.iter().for_each(|name| person_params.add(name, None));
    let ids = vendors.iter().enumerate().map(|(at, vendor)| (vendor.id.clone(), id(at))).collect();
    Ok(Registry {
        vendors,
        ids,
        index,
        shared,
        markers,
        cookies,
        never_delete,
        params,
        person_params,
        collectors,
        version,
    })
}

/// Positions are checked to fit before any is made.
fn id(at: usize) -> VendorId {
    VendorId(u16::try_from(at).unwrap_or(u16::MAX))
}

fn merge(
    merged: &mut Merged,
    file: source::File,
    number: usize,
    first_of_layer: usize,
    place: &impl Fn(usize, usize) -> Place,
) -> Result<(), RegistryError> {
    for entry in file.entries {
        let id = &entry.vendor.id;
        match merged.positions.get(id).copied() {
            Some(at) if merged.entries[at].0 >= first_of_layer => {
                let (first_file, first) = &merged.entries[at];
                let fault = Fault::DuplicateId { id: id.clone(), first: place(*first_file, first.offset) };
                return Err(RegistryError::new(place(number, entry.offset), fault));
            }
            Some(at) => merged.entries[at] = (number, entry),
            None => {
                merged.positions.insert(id.clone(), merged.entries.len());
                merged.entries.push((number, entry));
            }
        }
    }
    merged.collectors.extend(file.collectors.into_iter().map(|collector| (number, collector)));
    merged.never_delete.extend(file.never_delete);
    merged.mixed_use.extend(file.mixed_use);
    merged.person_params.extend(file.person_params);
    Ok(())
}

/// A host that serves other things too must come with paths, or all of it would be taken in.
fn check_mixed_use(merged: &Merged, place: &impl Fn(usize, usize) -> Place) -> Result<(), RegistryError> {
    for (file, entry) in &merged.entries {
        for (rule, (offset, _)) in entry.vendor.hosts.iter().zip(&entry.hosts) {
            let bare = rule.host.strip_prefix("www.").unwrap_or(&rule.host);
            let mixed = hosts::is_rented_out(bare)
                || merged.mixed_use.iter().any(|known| glob(known.as_bytes(), bare.as_bytes()));
            if mixed && rule.paths.iter().any(|path| PathPrefix::new(path).is_root()) {
                let fault = Fault::MixedUse(rule.host.clone());
                return Err(RegistryError::new(place(*file, *offset), fault));
            }
        }
    }
    Ok(())
}

/// Who was first with a host and path.
struct Claim {
    owners: Vec<VendorId>,
    role: Role,
    file: usize,
    offset: usize,
}

fn index_hosts(
    merged: &Merged,
    place: &impl Fn(usize, usize) -> Place,
) -> Result<(HostIndex, Vec<SharedRule>), RegistryError> {
    let mut claims: HashMap<(&str, String), Claim> = HashMap::new();
    // In file order, so that a collision is reported in the file that brought it.
    let mut order: Vec<usize> = (0..merged.entries.len()).collect();
    order.sort_by_key(|at| merged.entries[*at].0);
    for at in order {
        let (file, entry) = &merged.entries[at];
        let vendor = &entry.vendor;
        for (rule, (_, offsets)) in vendor.hosts.iter().zip(&entry.hosts) {
            for (path, offset) in rule.paths.iter().zip(offsets) {
                let path = PathPrefix::new(path).as_str().to_owned();
                let claim = claims.entry((&rule.host, path.clone())).or_insert_with(|| Claim {
                    owners: Vec::new(),
                    role: vendor.role,
                    file: *file,
                    offset: *offset,
                });
                if claim.role != vendor.role {
                    let there_id =
                        claim.owners.first().map_or("", |id| &merged.entries[id.index()].1.vendor.id);
                    let fault = Fault::Collision {
                        host: rule.host.clone(),
                        path,
                        here_id: vendor.id.clone(),
                        here: vendor.role,
                        there_id: there_id.to_owned(),
                        there: claim.role,
                        there_place: place(claim.file, claim.offset),
                    };
                    return Err(RegistryError::new(place(*file, *offset), fault));
                }
                if !claim.owners.contains(&id(at)) {
                    claim.owners.push(id(at));
                }
            }
        }
    }
    Ok(by_host(claims))
}

fn by_host(claims: HashMap<(&str, String), Claim>) -> (HostIndex, Vec<SharedRule>) {
    let mut hosts: HashMap<&str, Vec<(Rule, Role)>> = HashMap::new();
    let mut shared = Vec::new();
    for ((host, path), claim) in claims {
        if claim.owners.len() > 1 {
            shared.push(SharedRule {
                host: host.to_owned(),
                path: path.clone(),
                owners: claim.owners.clone(),
            });
        }
        let rule = Rule { path: PathPrefix::new(&path), vendors: claim.owners };
        hosts.entry(host).or_default().push((rule, claim.role));
    }
    shared.sort_by(|a, b| (&a.host, &a.path).cmp(&(&b.host, &b.path)));
    let mut hosts: Vec<_> = hosts
        .into_iter()
        .map(|(host, mut rules)| {
            // Longest first. Two different patterns of one length can meet the same path only when
            // one has a wildcard; then the stricter role goes first.
            rules.sort_by(|(a, a_role), (b, b_role)| {
                (b.path.literal(), a_role, a.path.as_str()).cmp(&(a.path.literal(), b_role, b.path.as_str()))
            });
            (host.to_owned(), rules.into_iter().map(|(rule, _)| rule).collect())
        })
        .collect();
    hosts.sort_by(|a: &(String, Vec<Rule>), b| a.0.cmp(&b.0));
    (HostIndex::build(hosts), shared)
}

fn name_collectors(
    merged: &Merged,
    place: &impl Fn(usize, usize) -> Place,
) -> Result<Vec<CollectorRule>, RegistryError> {
    merged
        .collectors
        .iter()
        .map(|(file, collector)| {
            let written = &collector.value.vendor;
            let Some(at) = merged.positions.get(written) else {
                let nearest =
                    nearest(written, merged.positions.keys().map(String::as_str)).map(str::to_owned);
                let fault = Fault::UnknownVendor { id: written.clone(), nearest };
                return Err(RegistryError::new(place(*file, collector.offset), fault));
            };
            Ok(CollectorRule::new(id(*at), collector.value.clone()))
        })
        .collect()
}

/// First 12 hex digits of a SHA-256 over what the files mean, not over how they are written.
fn version(merged: &Merged) -> String {
    let vendors: Vec<_> = merged.entries.iter().map(|(_, entry)| &entry.vendor).collect();
    let collectors: Vec<_> = merged.collectors.iter().map(|(_, collector)| &collector.value).collect();
    // Plain structs of texts and lists always become JSON.
    let meaning = serde_json::to_vec(&(vendors, collectors, &merged.never_delete, &merged.person_params))
        .unwrap_or_default();
    let mut hex = data_encoding::HEXLOWER.encode(&Sha256::digest(&meaning));
    hex.truncate(12);
    hex
}
