//! Filter lists: 40 foreign resources of a page asked one by one, warm and cold, and the page itself.
//!
//! The lists are EasyList and EasyPrivacy where a checkout has them beside it, else rules made here.

use std::fmt::Write as _;
use std::hint::black_box;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use optgate::config::{LinkTitle, ListRole, Site, VendorPolicy};
use optgate::enforce::html::{Kind, Plan, Rewriter};
use optgate::registry::lists::{Canaries, FilterList, ListSet, PageLists, RequestType};
use optgate::registry::{Policy, Registry};

/// Foreign resources of a page, as the issue counts them.
const RESOURCES: usize = 40;

/// Ends the bench where its ground is missing.
fn good<T, E: std::fmt::Display>(result: Result<T, E>) -> T {
    match result {
        Ok(value) => value,
        Err(error) => panic!("{error}"),
    }
}

fn lists() -> Vec<FilterList> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/lists");
    let read = |name: &str| {
        let bytes = std::fs::read(folder.join(name)).ok()?;
        Some(good(FilterList::read(name, ListRole::Block, bytes)))
    };
    if let Some(lists) = ["easylist.txt", "easyprivacy.txt"].into_iter().map(read).collect::<Option<Vec<_>>>()
    {
        return lists;
    }
    println!("no lists beside the checkout: rules are made here");
    let mut text = String::new();
    for id in 0..60_000 {
        let _ = match id % 3 {
            0 => writeln!(text, "||tracker{id}.example^$third-party"),
            1 => writeln!(text, "/pixel{id}/*/collect.$image,script"),
            _ => writeln!(text, "-banner{id}-$domain=site{id}.example"),
        };
    }
    vec![good(FilterList::read("made.txt", ListRole::Block, text.into_bytes()))]
}

fn build(lists: &[FilterList], cores: usize) -> ListSet {
    let lists: Vec<&FilterList> = lists.iter().collect();
    good(ListSet::build(&lists, &Canaries::new("/privacy-choices", &[], &[]), cores))
}

fn site() -> Arc<Site> {
    Arc::new(Site {
        scope: "bench".into(),
        formerly: Vec::new(),
        lineage: String::new(),
        cookie_domain: None,
        programme: None,
        name: "news".to_owned(),
        hosts: vec!["news.example".to_owned()],
        upstreams: Vec::new(),
        sharing: Default::default(),
        mode: optgate::privacy::Mode::Enforce,
        policy: VendorPolicy::default(),
        paths: Vec::new(),
        on_rewrite_failure: optgate::config::OnRewriteFailure::default(),
        cache_front: optgate::config::CacheFront::default(),
        strip_link_params: false,
        redirect: None,
        hsts: None,
        no_transform: Default::default(),
        compress: optgate::config::Compress::OptedOut,
        csp: Default::default(),
        first_party_hosts: Vec::new(),
        lists: Vec::new(),
    })
}

fn policy() -> Arc<Policy> {
    Arc::new(good(Policy::resolve(Arc::new(good(Registry::builtin())), &VendorPolicy::default())))
}

/// Hosts, paths and kinds: pictures, scripts and styles of some ten hosts that no registry knows.
fn resources() -> Vec<(String, String, RequestType)> {
    let kinds = [("jpg", RequestType::Image), ("js", RequestType::Script), ("css", RequestType::Stylesheet)];
    (0..RESOURCES)
        .map(|id| {
            let (ending, kind) = kinds[id % kinds.len()];
            let host = format!("static{}.news-cdn.example", id % 11);
            (host, format!("/2026/11/assets/{id}/harbour-plan-w640.{ending}?v=8f3a{id}"), kind)
        })
        .collect()
}

fn page() -> Vec<u8> {
    let mut html = String::from("<!DOCTYPE html><html><head><title>News</title></head><body>\n");
    for (id, (host, path, kind)) in resources().into_iter().enumerate() {
        let _ = match kind {
            RequestType::Script => writeln!(html, "<script src=\"https://{host}{path}\" async></script>"),
            _ => {
                writeln!(html, "<p class=\"card\">Story {id}</p><img src=\"https://{host}{path}\" alt=\"\">")
            }
        };
    }
    html.push_str("</body></html>\n");
    html.into_bytes()
}

fn asked(c: &mut Criterion) {
    let (lists, policy, site) = (lists(), policy(), site());
    let set = Arc::new(build(&lists, 1));
    let resources = resources();
    let ask = |page: &PageLists| {
        resources
            .iter()
            .filter(|(host, path, kind)| page.match_url(black_box(host), path, *kind).is_some())
            .count()
    };
    let fresh = || Rc::new(set.matcher()).for_page(&site, "news.example", &policy);
    let Some(warm) = fresh() else { panic!("the registry has no entry for lists") };
    c.bench_function("registry/lists_match_url/40_warm", |b| b.iter(|| ask(&warm)));
    c.bench_function("registry/lists_match_url/40_cold", |b| {
        b.iter_batched(fresh, |page| page.as_ref().map(ask), BatchSize::LargeInput);
    });
    let html = page();
    for (name, lists) in [("without", None), ("warm", Some(warm))] {
        let plan = Plan {
            opted_out: true,
            keeps_programme: false,
            policy: Arc::clone(&policy),
            page: good(url::Url::parse("https://news.example/today")),
            kind: Kind::Document,
            guard: None,
            keeper: Some(Default::default()),
            prefix: Arc::from("/privacy-choices"),
            link: LinkTitle::DoNotSell,
            memory: 8 << 20,
            lists,
        };
        let mut out = Vec::with_capacity(html.len() * 2);
        c.bench_function(&format!("enforce/rewrite_with_lists/40_{name}"), |b| {
            b.iter(|| {
                out.clear();
                let mut rewriter = Rewriter::new(plan.clone());
                good(rewriter.write(black_box(&html), &mut out));
                good(rewriter.end(&mut out)).vendors.len()
            });
        });
    }
}

fn built(c: &mut Criterion) {
    let lists = lists();
    let mut group = c.benchmark_group("registry/lists_build");
    group.sample_size(10);
    for cores in [1, 2, 8] {
        group.bench_function(format!("{cores}_cores"), |b| b.iter(|| build(&lists, cores)));
    }
    group.finish();
}

criterion_group!(benches, asked, built);
criterion_main!(benches);
