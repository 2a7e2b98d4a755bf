// Stand-ins for the globals of stripped vendors, so that page code neither throws nor waits, and so
// that a snippet which stops when its global exists does stop.
//
// How this file is read (stubs.rs): everything before the first `@stub` line and after `@end` is always
// kept. A line `// @stub IDS` heads a section, kept when one of the vendors is stripped; `a+b` asks for
// both. A line `// @stub IDS: KIND NAMES; KIND NAMES` has no code: it lists globals that are made by the
// helper named KIND. Each section runs in its own try; sections share their variables, in order.
//
// A line `// @late ID: KIND NAMES; KIND NAMES` lists globals whose names are words that a page may have for
// itself. They are made where the page embeds the vendor: by what stands in for its file or its snippet.
//
// Our own reading of the vendors' public call shapes; a call never reaches a vendor. Nothing here may
// throw into page code. Comments stand on lines of their own, for the minifier.
function stubs(W) {
  // What we made ourselves: never called back, never wrapped twice.
  var mine = new WeakSet();
  // Where vendors' options carry the page's continuation.
  var answers = "hitCallback commandCallback onload_callback callback loaded".split(" ");
  // Functions handed over under these names listen, loop or configure; they do not wait for an answer.
  var listens = /^(on|off|add|bind|un|sub|obs|listen|set|provide|catch|each|forE|map|filter|some|every|find|red|trackF)|:on/;

  // Runs a page's callback in its own turn, as the vendor's file would have.
  function later(f, arg, ms) {
    if (typeof f == "function" && !mine.has(f)) W.setTimeout(() => f.call(arg, arg), ms);
  }

  // Follows a link whose click the page has left to the vendor.
  function go(url) {
    if (typeof url == "string") W.location.href = url;
  }

  // Calls back whoever waits among the arguments: known options, and the last function.
  function done(args, name, who) {
    var f;
    try {
      who ||= any();
      [].forEach.call(args, arg => {
        if (typeof arg == "function") f = arg;
        else if (arg) answers.forEach(key => later(arg[key], who));
      });
      if (!listens.test(name || f !== args[0] && args[0])) later(f, who);
    } catch (e) {}
  }

  // An object that takes everything: any member, any call, `new`, `await`; reads as empty text and list.
  // A method's call returns its object, for chains. `load` is ours: that is where snippets fetch.
  function any(own, parent, name) {
    var kids = {}, p = new Proxy(Object.assign(function () {}, own), {
      get: (t, key) => {
        if (key in t) return t[key];
        if (key === Symbol.toPrimitive) return () => "";
        // A package that gives its global away is no module that was made of one.
        if (typeof key == "symbol" || key == "__esModule") return [][key];
        if (key === "then") return (a, b) => Promise.resolve(any({ then: void 0 })).then(a, b);
        return kids[key] ||= any(0, p, key);
      },
      set: (t, key, value) => {
        if (key !== "load") Reflect.set(t, key, value);
        return true;
      },
      apply: (t, self, args) => {
        done(args, name);
        return parent || p;
      },
      construct: (t, args) => {
        done(args);
        return any();
      }
    });
    mine.add(p);
    return p;
  }

  // A command function: name(command, ..., callback).
  function queue(who) {
    var f = function () { done(arguments, "", who); };
    f.q = f.queue = [];
    f.push = f.callMethod = f;
    f.loaded = true;
    f.version = "2.0";
    mine.add(f);
    return f;
  }

  // A command list. What a page has already put in is taken out and run.
  function array(a, run) {
    a = Array.isArray(a) ? a : [];
    run ||= (x => later(x?.[0] || x, any()));
    a.splice(0).forEach(run);
    a.push = function () {
      [].forEach.call(arguments, run);
      return 0;
    };
    return a;
  }

  // Defines globals that are not there yet; a plain list is taken over.
  function put(make, names) {
    names.split(" ").forEach(name => {
      try {
        var old = W[name];
        if (old === void 0 || (make === array && Array.isArray(old))) W[name] = make(old);
      } catch (e) {}
    });
  }
  (W[Symbol.for("optgate")] || {}).put = (kind, names) => put({ any, array, queue }[kind], names);
  function one(name, value) {
    put(() => value, name);
  }

  // As `put`, and again whenever the page assigns a new list.
  function hold(name, make) {
    var value = make(W[name]);
    Object.defineProperty(W, name, {
      configurable: true,
      enumerable: true,
      get: () => value,
      set: x => { value = make(x); }
    });
  }

  // Functions that give one thing.
  function give(x) {
    return () => x;
  }
  var nil = give(null);
  function list() {
    return [];
  }

  // @stub google-tag-manager+google-gtag
  // Both gone: nobody else will answer, so answer at once.
  var wait = 0;

  // @stub google-tag-manager google-gtag google-analytics-4
  // The data layer stays a list, and a loader that is kept finds every entry in it. A loader puts a `push`
  // of its own in place, and then answers itself; each answer is given once, whoever gives it.
  var pushed, wait;
  var idle = () => {
    var push = (W.dataLayer || []).push;
    return push === pushed || /native code/.test(push);
  };
  var see = function (x) {
    var key = "eventCallback", at = x, once;
    if (x?.[0] === "get") at = x, key = 3;
    else if (x?.[0] === "event") at = x[2], key = "event_callback";
    var f = at?.[key];
    if (typeof f != "function") return x;
    once = function () {
      var g = f;
      f = give();
      return g.apply(this, arguments);
    };
    later(() => {
      if (idle()) once("");
    }, x, wait === 0 ? 0 : 500);
    if (at === x && key === 3) x[3] = once;
    else {
      at = Object.assign({}, at);
      at[key] = once;
      if (x[0] === "event") x[2] = at;
      else x = at;
    }
    return x;
  };

  // @stub google-tag-manager google-gtag
  hold("dataLayer", function (a) {
    a = a === void 0 ? [] : a;
    if (!Array.isArray(a) || mine.has(a)) return a;
    var push = a.push;
    mine.add(a);
    a.forEach((x, i) => { a[i] = see(x); });
    a.push = pushed = function () { return push.apply(a, [].map.call(arguments, see)); };
    return a;
  });

  // @stub google-gtag google-analytics-4
  one("gtag", function () {
    var a = W.dataLayer ||= [];
    a.push(idle() && a.push !== pushed ? see(arguments) : arguments);
  });

  // @stub google-optimize google-tag-manager
  // The anti-flicker snippet hides the page until its container has loaded: it never will.
  var hide;
  Object.defineProperty(W.dataLayer ||= [], "hide", {
    configurable: true,
    get: () => hide,
    set: x => later((hide = x) && x.end)
  });

  // @stub google-tag-manager: any google_tag_manager
  // @stub tealium: any utag
  // @stub ensighten: any Bootstrapper

  // @stub adobe-launch
  one("_satellite", any({ getVar: give(), cookie: any({ get: give() }) }));
  one("alloy", () => Promise.resolve({}));

  // @stub google-ads-conversion
  put(give(url => {
    go(url);
    later(url);
    return false;
  }), "gtag_report_conversion goog_report_conversion");
  put(queue, "google_trackConversion");

  // @stub google-universal-analytics
  var same = x => x;
  var tracker = any({ get: give(""), set: give(), _getLinkerUrl: same, _link: go, _getVisitorCustomVar: give() });
  var ga = queue(tracker);
  one("ga", Object.assign(function (a, b, c) {
    if (b === "hitCallback") later(c);
    ga.apply(this, arguments);
  }, ga, { getAll: () => [tracker], getByName: give(tracker), create: give(tracker), remove: give() }));
  one("_gat", tracker);
  put(queue, "urchinTracker");
  hold("_gaq", a => {
    return array(a, x => {
      if (/_link$/.test(x?.[0])) go(x[1]);
      later(x?.[1] === "hitCallback" ? x[2] : x?.[0] || x, tracker);
    });
  });

  // @stub google-publisher-tag
  var slot = (path, size, id) => {
    return any({ getAdUnitPath: give(path), getSlotElementId: give(id || ""), getTargeting: list });
  };
  var pubads = any({ getSlots: list, getTargeting: list, isInitialLoadDisabled: give(false) });
  if (!W.googletag?.apiReady) W.googletag = any({
    apiReady: true, pubadsReady: true, cmd: array(W.googletag?.cmd), pubads: give(pubads), defineSlot: slot,
    defineOutOfPageSlot: (path, id) => slot(path, 0, id)
  });

  // @stub google-adsense
  // The end is told of every ad break, also of one without an ad.
  put(() => {
    return Object.assign(array(0, x => {
      later(x?.onReady);
      later(x?.adBreakDone, { breakStatus: "notReady" });
    }), { loaded: true });
  }, "adsbygoogle");

  // @stub amazon-ads-tag
  one("apstag", any({
    fetchBids: (x, f) => {
      later(f, []);
      return Promise.resolve([]);
    }
  }));
  put(queue, "amzn");
  put(any, "amznads");

  // @stub prebid
  var bids = W.pbjs || 0;
  if (!bids.libLoaded) W.pbjs = any({
    libLoaded: true, que: array(bids.que), cmd: array(bids.cmd),
    requestBids: x => {
      later(x?.bidsBackHandler, {});
      return Promise.resolve({ bids: {}, timedOut: false });
    }
  });

  // @stub facebook-sdk
  // Nobody is logged in, and every answer says so.
  var login = function () {
    [].forEach.call(arguments, f => later(f, { status: "unknown", authResponse: null }));
  };
  one("FB", any({
    getLoginStatus: login, login: login, logout: login, api: login, ui: login, getAuthResponse: nil,
    getAccessToken: nil
  }));
  var start = () => later(W.fbAsyncInit);
  if (W.document.readyState === "loading") W.document.addEventListener("DOMContentLoaded", start);
  else start();

  // @stub meta-pixel
  put(queue, "fbq");
  one("_fbq", W.fbq);

  // @stub linkedin-insight
  put(queue, "lintrk");
  put(array, "_linkedin_data_partner_ids");
  one("_linkedin_partner_id", "");

  // @stub adobe-analytics
  one("s", any({
    t: give(),
    tl: (link, type, name, vars, next) => {
      if (next === "navigate") go(link?.href);
      later(next);
    }
  }));
  one("s_gi", give(W.s));
  put(any, "AppMeasurement");
  one("Visitor", any({ getInstance: give(any({ appendVisitorIDsTo: url => url })) }));

  // @stub adobe-target
  // Offers fail at once, so that the page shows its own content.
  var offer = x => later(x && (x.error || x.success), {});
  if (!W.adobe?.target) (W.adobe ||= {}).target = any({ getOffer: offer });
  put(queue, "mboxCreate mboxDefine mboxUpdate");

  // @stub ias
  one("__IASPET", any({ queue: array(0, x => later(x?.dataHandler, "{}")) }));

  // @stub criteo-onetag: array criteo_q; any Criteo criteo_pubtag
  // @stub tiktok-pixel: any ttq
  // @stub pinterest-tag: queue pintrk; any PinUtils
  // @stub snap-pixel: queue snaptr
  // @stub x-ads: queue twq; any twttr
  // @stub x-widgets: any twttr
  // @stub reddit-pixel: queue rdt
  // @stub nextdoor-pixel: queue ndp
  // @stub temu-shein-other: queue axon
  // @stub tiktok-instagram-embeds: any instgrm tiktokEmbed
  // @stub microsoft-uet: array uetq; any UET
  // @stub outbrain: queue obApi; any OBR; array _obq
  // @stub zemanta: queue zemApi
  // @stub taboola: array _tfa _taboola
  // @stub adroll: any adroll __adroll
  // @stub stackadapt: queue saq
  // @stub rtb-house: array rtbhEvents
  // @stub spotify-pixel: queue spdt pdst
  // @stub roku-oneview: queue rkp
  // @stub vibe-co: queue vbpx
  // @stub tatari: any tatari
  // @stub cardlytics-bridg: any cdlx
  // @stub quantcast: array _qevents; queue quantserve; any __qc
  // @stub the-trade-desk: any TTDUniversalPixelApi __uid2; queue ttd_dom_ready
  // @stub xandr: any apntag
  // @stub pubmatic: any PWT
  // @stub yahoo-dot: array dotq
  // @stub index-exchange: any headertag
  // @stub media-net: any _mNHandle _mNDetails
  // @stub adform: array _adftrack; any adf
  // @stub zeta-rocketfuel: queue _rfi ebConversionTracker
  // @stub nativo: any PostRelease; array _prx
  // @stub mgid-revcontent: array _mgq
  // @stub connatix: any cnx cnxps
  // @stub teads: array teads_e
  // @stub innovid-flashtalking: array _tvq
  // @stub ezoic: any ezstandalone
  // @stub raptive: any adthrive
  // @stub freestar-pubwise: any freestar adngin
  // @stub rokt: any Rokt
  // @stub comscore: array _comscore; any COMSCORE; queue udm_
  // @stub nielsen: any NOLBUNDLE nSdkInstance nol_t
  // @stub doubleverify: any dvtag
  // @stub yandex-metrica: queue ym
  // @stub 33across: array Tynt
  // @stub adobe-audience-manager: any DIL
  // @stub liveintent: array liQ
  // @stub id5: any ID5
  // @stub sharethis: any stLight __sharethis__
  // @stub addthis: any addthis
  // @stub wunderkind: any bouncex bxgraph
  // @stub permutive: any permutive
  // @stub clearbit: any clearbit
  // @stub bombora: any _ml
  // @stub sixsense: array _6si
  // @stub zoominfo: any _zi
  // @stub rb2b: any reb2b
  // @stub retention-com: any geq
  // @stub leadfeeder: queue ldfdr
  // @stub salesforce-krux: any Krux
  // @stub apollo-io: any trackingFunctions
  // @stub opensend: array _oirtEvents
  // @stub oracle-bluekai: queue bk_doJSTag; any BKTAG
  // @stub hotjar: queue hj
  // @stub crazyegg: any CE2
  // @stub lucky-orange: array LOQ
  // @stub contentsquare: array _uxa; queue ClickTaleEvent
  // @stub mouseflow: array _mfq; any mouseflow
  // @stub inspectlet: array __insp
  // @stub quantum-metric: any QuantumMetricAPI
  // @stub logrocket: any LogRocket
  // @stub glassbox-tealeaf: any TLT
  // @stub wordpress-jetpack: array _stq _tkq; queue st_go
  // @stub sentry: any Sentry
  // @stub newrelic-browser: any newrelic
  // @stub akamai-mpulse: any BOOMR; array BOOMR_mq
  // @stub yotpo: any yotpo
  // @stub mixpanel: any mixpanel
  // @stub chartbeat: any pSUPERFLY _sf_async_config; array _cbq
  // @stub parsely: any PARSELY
  // @stub northbeam-triple-whale: any Northbeam; queue TriplePixel
  // @stub datadog-rum: any DD_RUM DD_LOGS
  // @stub matomo: array _paq _mtm; any Piwik Matomo
  // @stub klaviyo: any klaviyo; array _learnq _klOnsite
  // @stub hubspot: array _hsq _hsp; any HubSpotConversations
  // @stub attentive: any __attentive
  // @stub livechat-tawk: any LiveChatWidget LC_API Tawk_API
  // @stub zendesk-chat: any zE $zopim
  // @stub onesignal: any OneSignal; array OneSignalDeferred
  // @stub reviews-loyalty: any POWERREVIEWS
  // @stub intercom: queue Intercom
  // @stub privy-justuno-omni: queue juapp
  // @stub optimizely: any optimizely zaius
  // @stub vwo: any _vwo_code VWO
  // @stub braze: any braze appboy; array appboyQueue brazeQueue
  // @stub salesforce-evergage: any Evergage SalesforceInteractions; array _etmc
  // @stub drift: any driftt
  // @stub ortto-customerio-omnisend: any _cio omnisend; array _dcq _dcs _Sendlane
  // @stub marketo: any Munchkin MktoForms2; queue mktoMunchkin
  // @stub mparticle: any mParticle
  // @stub salesforce-pardot: queue piTracker
  // @stub bluecore: array _bluecoreTrack; any triggermail
  // @stub activecampaign-convertkit: queue vgo
  // @stub constant-contact-acton: array _elqQ
  // @stub lytics: any jstag lio
  // @stub iterable: array _iaq
  // @stub rudderstack: any rudderanalytics
  // @stub addtoany: any a2a

  // @late quora-pixel: queue qp
  // @late xandr: queue pixie
  // @late adobe-advertising: any EF
  // @late openx: any OX
  // @late equativ: any sas
  // @late admiral-blockthrough: queue admiral
  // @late impact-radius: queue ire
  // @late freestar-pubwise: any ramp
  // @late doubleverify: any PQ
  // @late microsoft-clarity: queue clarity
  // @late lucky-orange: any LO
  // @late fullstory: any FS
  // @late amplitude: any amplitude
  // @late heap: any heap
  // @late appsflyer-branch-adjust: queue AF; any branch Adjust
  // @late segment: any analytics
  // @late reviews-loyalty: any BV
  // @late drift: any drift
  // @late dynamic-yield: any DY
  // @end
}
