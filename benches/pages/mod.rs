//! Pages that benches rewrite: a news page made here, and saved pages where a checkout has some beside it.

#![allow(dead_code)] // each bench uses a part

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use optgate::config::{LinkTitle, SignalSettings, VendorPolicy};
use optgate::enforce::guard::{Guard, Placement};
use optgate::enforce::html::{Kind, Plan};
use optgate::registry::{Policy, Registry};

/// Bytes that a body usually comes in.
pub const PIECE: usize = 64 * 1024;

/// Saved pages of different makes.
const SAVED: [&str; 4] = [
    "hpb__www.reuters.com__dccfcbd5.html",
    "htd__ktla.com__26f65fe3.html",
    "rcp__www.chefsavvy.com__3ad811a6.html",
    "fsa__www.zalando.de__89869696.html",
];

/// The built-in registry under default settings.
pub fn policy() -> Arc<Policy> {
    let resolved = Registry::builtin().map_err(|error| error.to_string()).and_then(|registry| {
        Policy::resolve(Arc::new(registry), &VendorPolicy::default()).map_err(|error| error.to_string())
    });
    match resolved {
        Ok(policy) => Arc::new(policy),
        Err(error) => panic!("the built-in registry must load: {error}"),
    }
}

/// A page of a news site, as it is rewritten for everybody or for who has opted out.
pub fn plan(policy: &Arc<Policy>, opted_out: bool) -> Plan {
    let page = match url::Url::parse("https://news.example/politics/today") {
        Ok(page) => page,
        Err(error) => panic!("{error}"),
    };
    Plan {
        opted_out,
        keeps_programme: false,
        policy: Arc::clone(policy),
        page,
        kind: Kind::Document,
        guard: Some(Placement {
            guard: Arc::new(Guard::new(policy, "/privacy-choices", &SignalSettings::default())),
            gpc: true,
            nonce: None,
            sealed: false,
        }),
        keeper: Some(Default::default()),
        prefix: Arc::from("/privacy-choices"),
        link: LinkTitle::DoNotSell,
        memory: 8 << 20,
        lists: None,
    }
}

/// An application's state, as server-rendered pages carry it.
fn state(bytes: usize) -> String {
    let mut text = String::from("window.__STATE__={");
    let mut id = 0;
    while text.len() < bytes {
        let _ = write!(
            text,
            "\"story{id}\":{{\"headline\":\"Council votes on item {id}\",\"words\":{},\"tags\":[\"city\",\"vote\"],\
             \"url\":\"https:\\u002F\\u002Fnews.example\\u002Fstory\\u002F{id}\"}},",
            id * 37 % 1900
        );
        id += 1;
    }
    text + "\"end\":0};"
}

fn card(html: &mut String, id: usize) {
    let _ = write!(
        html,
        "<article class=\"card card--{} u-mb-16\" data-story-id=\"{id}\" data-position=\"{}\">\n<a class=\"card__link\" \
         href=\"/politics/2025/11/{id}/council-votes-on-the-new-harbour-plan\" aria-label=\"Read more\">\n<picture>\
         <source type=\"image/webp\" srcset=\"https://img.news-cdn.example/w320/{id}.webp 320w, \
         https://img.news-cdn.example/w640/{id}.webp 640w\" sizes=\"(min-width: 800px) 320px, 100vw\">\
         <img class=\"card__image lazy\" src=\"https://img.news-cdn.example/w320/{id}.jpg\" \
         alt=\"The harbour on the day of vote {id}\" width=\"320\" height=\"180\" loading=\"lazy\"></picture>\n\
         <h3 class=\"card__title\"><span class=\"card__kicker\">Politics</span> Council votes on harbour plan {id}\
         </h3></a>\n<p class=\"card__text\">Members argued for hours about costs, ferries and the old cranes before \
         number {id} was put to a vote &amp; passed.</p>\n<div class=\"card__meta\"><time datetime=\"2025-11-20\">\
         20 November</time> <a href=\"/by/reporter-{}\">A. Reporter</a> <button class=\"share\" type=\"button\">\
         <svg class=\"icon\" width=\"16\" height=\"16\" viewBox=\"0 0 16 16\"><path d=\"M2 8h12M8 2v12\"/></svg>\
         </button></div>\n</article>\n",
        id % 4,
        id % 12,
        id % 30
    );
}

/// A news page of about 300 kB.
pub fn news() -> Vec<u8> {
    news_of(150)
}

/// A news page: hints, scripts short and long, so many cards with links, pictures and icons.
pub fn news_of(cards: usize) -> Vec<u8> {
    let mut html = String::from(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>News</title>\n",
    );
    for id in 0..30 {
        let host =
            if id % 6 == 0 { "www.googletagmanager.com".to_owned() } else { format!("cdn{id}.news.example") };
        let rel = ["preconnect", "dns-prefetch", "preload"][id % 3];
        let _ =
            writeln!(html, "<link rel=\"{rel}\" href=\"https://{host}/a{id}.js\" as=\"script\" crossorigin>");
    }
    for id in 0..20 {
        let _ = writeln!(
            html,
            "<meta property=\"og:item{id}\" content=\"https://news.example/item/{id}?a=1&amp;b=2\">"
        );
    }
    html.push_str(
        "<style>.card{margin:0 0 16px;background:url(/static/card.png)}.icon{width:16px}</style>\n",
    );
    html.push_str("<script async src=\"https://www.googletagmanager.com/gtm.js?id=GTM-XXXX\"></script>\n");
    html.push_str("<script>!function(f,b,e,v,n,t,s){n=f.fbq=function(){}}(window);fbq('init','1');</script>\n</head><body>\n");
    html.push_str("<header><nav class=\"menu\"><ul>");
    for id in 0..120 {
        let _ = write!(
            html,
            "<li class=\"menu__item\"><a class=\"menu__link\" href=\"/section/{id}\">Section {id}</a></li>"
        );
    }
    html.push_str("</ul></nav></header><main>\n");
    for id in 0..cards {
        card(&mut html, id);
        if id % 6 == 0 {
            let size = if id % 24 == 0 { 16_000 } else { 400 };
            let _ = writeln!(html, "<script>{}</script>", state(size));
        }
    }
    html.push_str(
        "</main><noscript><img src=\"https://www.facebook.com/tr?id=1\" alt=\"\"></noscript>\n<footer><ul>",
    );
    for id in 0..60 {
        let _ = write!(html, "<li><a href=\"/about/{id}\">About {id}</a></li>");
    }
    html.push_str("</ul></footer></body></html>\n");
    html.into_bytes()
}

/// Pages by name; the saved ones where a checkout has them beside it.
pub fn pages() -> Vec<(String, Vec<u8>)> {
    let mut pages = vec![("news".to_owned(), news())];
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/corpus");
    for name in SAVED {
        match std::fs::read(corpus.join(name)) {
            Ok(page) => pages.push((name.split("__").nth(1).unwrap_or(name).to_owned(), page)),
            Err(_) => println!("no {name} beside the checkout: left out"),
        }
    }
    pages
}
