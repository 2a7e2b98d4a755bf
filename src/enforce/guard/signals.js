// What a page and its vendors can ask about the visitor's choice: every answer says opted out.
// One function, called once in the top window, before any other script. It never throws outward.
// A consent platform's own functions are kept behind ours; its cookies are steered as it writes them.
function signals(W, gpc) {
  var S = SIGNALS_DATA, D = W.document, O = Object, US = "1YYN", GPP = S.gpp[gpc ? 1 : 0];
  function safe(f) { try { return f(); } catch (e) {} }
  function copy(x) { return JSON.parse(JSON.stringify(x)); }
  function noop() {}
  // `seen` gets each value that `o[name]` gets, and may give another one in its stead.
  function when(o, name, seen, read) {
    var now;
    function take(v) {
      if (v === now) return;
      var to = safe(() => seen(v));
      now = to === undefined ? v : to;
    }
    take(o[name]);
    O.defineProperty(o, name, {
      configurable: true,
      get: () => { if (read) safe(() => read(now)); return now; },
      set: take
    });
  }

  // __uspapi and __gpp: ours outside, the page's own inside.
  // A page may give all objects a name more.
  var apis = { __proto__: null };
  function api(name, answer, arrived) {
    var own = null;
    function ours() { return answer(own, arguments); }
    function get() { return ours; }
    function set(f) {
      if (typeof f == "function" && f !== ours) {
        own = f;
        safe(() => arrived?.(f));
      }
    }
    // A function declaration of the page replaces an accessor without calling it, for good.
    apis[name] = () => {
      safe(() => {
        var d = O.getOwnPropertyDescriptor(W, name);
        if (d?.get === get) return;
        set(d?.value);
        if (d?.configurable === false) W[name] = ours;
        else O.defineProperty(W, name, { configurable: true, get: get, set: set });
      });
    };
    apis[name].ask = ours;
    apis[name]();
  }

  api("__uspapi", (own, a) => {
    var back = typeof a[2] == "function" ? a[2] : noop;
    if (a[0] == "getUSPData") back({ version: 1, uspString: US }, true);
    else if (own) own.apply(W, a);
    else back(null, false);
  });

  var ids = [], names = [], parsed = { __proto__: null }, last = 0, live = { __proto__: null }, cmp;
  S.sections.forEach(s => {
    ids.push(s[0]);
    names.push(s[0] + ":" + s[1]);
    parsed[s[1]] = [s[2], { GpcSegmentType: 1, Gpc: !!gpc }];
  });
  function ping(base) {
    return O.assign({ gppVersion: "1.1", cmpStatus: "loaded", cmpDisplayStatus: null, cmpId: 1 }, base, copy({
      signalStatus: "ready", supportedAPIs: names, sectionList: ids,
      applicableSections: ids, gppString: GPP, parsedSections: parsed
    }));
  }
  function event(name, id, data) {
    return { eventName: name, listenerId: id, data, pingData: ping() };
  }
  // What the page's own platform tells its listeners, with our strings.
  function follow(id) {
    var from = cmp;
    safe(() => {
      from("addEventListener", (e, ok) => {
        if (from === cmp && live[id] && e && e.eventName != "listenerRegistered")
          live[id](O.assign({}, e, { listenerId: id, pingData: ping(e.pingData) }), ok);
      });
    });
  }
  api("__gpp", (own, a) => {
    var command = a[0], back = typeof a[1] == "function" ? a[1] : noop, p = a[2], found = null, field;
    if (!a.length) return own ? own() : [];
    if (command == "ping") back(ping(), true);
    // Of version 1.0, which gave its answers back.
    else if (command == "getGPPData") return back(found = ping(), true), found;
    else if (command == "addEventListener") {
      live[++last] = back;
      if (own) follow(last);
      back(event("listenerRegistered", last, true), true);
    } else if (command == "removeEventListener") {
      found = p in live;
      delete live[p];
      back(event("listenerRemoved", p, found), found);
    } else if (command == "hasSection") back(p in parsed, true);
    else if (command == "getSection" || command == "getField") {
      field = String(p).split(".");
      found = field[0] in parsed ? copy(parsed[field[0]]) : null;
      if (found && command == "getField") found = found.filter(part => field[1] in part)[0]?.[field[1]] ?? null;
      back(found, found !== null);
    } else if (own) own.apply(W, a);
    else back(null, false);
  }, own => {
    cmp = own;
    for (var id in live) follow(+id);
  });

  // Frames ask by message. Ours answers alone, or two answers would contradict each other.
  W.addEventListener("message", e => {
    var m = e.data, text = typeof m == "string";
    if (text) m = /^\s*\{[^]*__(uspapi|gpp)Call/.test(m) && safe(() => JSON.parse(e.data));
    for (var name in apis) {
      var q = m && m[name + "Call"];
      if (!q) continue;
      e.stopImmediatePropagation();
      var back = (value, success) => {
        var r = { [name + "Return"]: { returnValue: value, success, callId: q.callId } };
        safe(() => e.source.postMessage(text ? JSON.stringify(r) : r, "*"));
      };
      if (name == "__gpp") apis[name].ask(q.command, back, q.parameter, q.version);
      else apis[name].ask(q.command, q.version, back);
      return;
    }
  }, true);
  // After load: a framework that takes over the whole document must not meet elements of ours.
  function settle() {
    for (var name in apis) {
      apis[name]();
      safe(() => {
        var at = name + "Locator", f;
        if (W.frames[at] || D.readyState != "complete") return;
        f = D.createElement("iframe");
        f.name = at;
        f.style.display = "none";
        D.body.appendChild(f);
      });
    }
  }
  D.addEventListener("readystatechange", settle);
  W.addEventListener("load", settle);
  settle();

  // #if cookies
  // Cookies. What stood there before us is kept in a mark beside it, so that the server judges that
  // and not our words; OptanonConsent carries its mark itself: domain, and what was turned.
  function optanon(value, domain) {
    var mark = /(?:^|&)optgate=([^&]*)/.exec(value), did = new Set(mark ? mark[1].split("!").slice(1) : []);
    value = value.replace(/(^|&)optgate=[^&]*/, "");
    if (!/(^|&)isGpcEnabled=1(&|$)/.test(value)) {
      did.add("gpc");
      value = value.replace(/(^|&)isGpcEnabled=[^&]*/, "") + "&isGpcEnabled=1";
    }
    value = value.replace(/((?:^|&)groups=)([^&]*)/, (all, key, list) => {
      var comma = /%2C/i.test(list) ? "%2C" : ",";
      return key + list.split(/%2C|,/i).map(one => {
        var group = /^(.*?)(%3A|:)1$/i.exec(one);
        if (!group || S.groups.indexOf(group[1]) < 0) return one;
        did.add(group[1]);
        return group[1] + group[2] + "0";
      }).join(comma);
    });
    return value.replace(/^&/, "") + (did.size ? "&optgate=" + (domain || "") + "!" + [...did].join("!") : "");
  }
  var steer = {
    __proto__: null,
    usprivacy: ["u", v => /^1[YN-]Y[YN-]$/i.test(v) ? v : US],
    OTGPPConsent: ["g", () => GPP],
    OneTrustWPCCPAGoogleOptOut: ["t", () => "true"],
    OptanonConsent: ["", optanon]
  };
  safe(function () {
    var P = W.Document.prototype, jar = O.getOwnPropertyDescriptor(P, "cookie");
    function put(name, value, domain, age) {
      jar.set.call(D, name + "=" + value + ";path=/;samesite=lax;max-age=" + age + (domain ? ";domain=" + domain : ""));
    }
    function values(name) {
      return jar.get.call(D).split("; ").filter(c => c.indexOf(name + "=") == 0)
        .map(c => c.slice(name.length + 1));
    }
    function said(name, before, domain) {
      if (steer[name][0]) put("optgate-said-" + steer[name][0], before, domain, 34560000);
    }
    O.defineProperty(P, "cookie", {
      configurable: true,
      enumerable: true,
      get: jar.get,
      set: function (line) {
        var to = safe(() => {
          var m = /^\s*([^=;\s]+)\s*=\s*([^;]*)(.*)$/.exec(line), rule = m && steer[m[1]];
          if (!rule || !m[2]) return;
          var domain = (/;\s*domain\s*=\s*\.?([^;\s]+)/i.exec(m[3]) || [])[1], before = m[2].trim();
          if (!/max-age\s*=\s*(0|-)/i.test(m[3])) said(m[1], before, domain);
          return m[1] + "=" + rule[1](before, domain) + m[3];
        });
        jar.set.call(this, to === undefined ? line : to);
      }
    });
    // Those that are there already, each where it is: one of another scope would be a second cookie.
    O.keys(steer).forEach(name => {
      var old = values(name), before = old[0], labels = W.location.hostname.split("."), i, domain, value;
      if (old.length != 1 || steer[name][1](before) === before) return;
      for (i = -1; i < labels.length; i++) {
        domain = i < 0 ? "" : labels.slice(i).join(".");
        value = steer[name][1](before, domain);
        put(name, value, domain, 31536000);
        if (values(name).length > 1) put(name, "", domain, 0);
        else if (values(name)[0] == value) { said(name, before, domain); return; }
      }
    });
    if (!values("usprivacy").length) {
      said("usprivacy", "-");
      jar.set.call(D, "usprivacy=" + US + ";path=/;samesite=lax");
    }
  });
  // #end
  W.OneTrustWPCCPAGoogleOptOut = true;

  // #if google
  // Google: defaults denied, first in every layer; nothing later grants.
  var no = {}, fixed = { __proto__: null };
  S.google.forEach(c => {
    if (c[0] == "set") fixed[c[1]] = c[2];
    else {
      if (S.analytics) c[2].analytics_storage = "denied";
      no = c[2];
    }
  });
  function pin(o, to) {
    for (var k in to) if (k in O(o)) o[k] = to[k];
  }
  function deny(entry) {
    safe(() => {
      if (entry[0] == "consent") pin(entry[2], no);
      if (entry[0] == "config" || entry[0] == "event") pin(entry[2], fixed);
      if (entry[0] != "set") return;
      pin(entry[1], fixed);
      if (entry[1] in fixed) entry[2] = fixed[entry[1]];
    });
  }
  function layer(list) {
    if (!list?.push) return;
    function wrap(push) {
      return function (...all) {
        all.forEach(deny);
        return push.apply(this, all);
      };
    }
    var push = wrap(list.push), first = [];
    function gtag() { first.push(arguments); }
    [].forEach.call(list, deny);
    copy(S.google).forEach(c => gtag.apply(W, c));
    list.unshift.apply(list, first);
    O.defineProperty(list, "push", {
      configurable: true,
      get: () => push,
      set: f => { push = wrap(f); }
    });
  }
  var open = name => open[name] ||= safe(() => {
    W[name] ||= [];
    when(W, name, layer);
    return 1;
  });
  open("dataLayer");
  // A container's address says which layer it reads, where that has another name. The container comes later.
  new W.MutationObserver(records => {
    for (var record of records) for (var added of record.addedNodes) {
      var other = /[?&]id=[A-Z]+-.*&l=(\w+)/.exec(added.src);
      if (other) open(other[1]);
    }
  }).observe(D, { childList: true, subtree: true });
  // #end

  // Shopify, when it is there and whenever it comes.
  safe(() => {
    when(W, "Shopify", shop => {
      if (shop) when(shop, "customerPrivacy", privacy => {
        if (privacy) when(privacy, "setTrackingConsent", set => {
          function ours(wish, back) {
            // #if cookies
            // Shopify keeps it in a cookie of its own, which goes with an explicit opt-in.
            safe(() => { D.cookie = "optgate-said-s=1;path=/;samesite=lax;max-age=34560000"; });
            // #end
            return set.call(privacy, O.assign({}, wish, { sale_of_data: false, marketing: false }, S.analytics && { analytics: false }), back);
          }
          function may(what) { return !privacy[what] || privacy[what]() !== false; }
          if (safe(() => may("saleOfDataAllowed") || may("marketingAllowed")) !== false) ours({}, noop);
          return ours;
        });
      });
    });
  });

  // #if calls
  // What a vendor's function is called with, while it waits in the queue and when the vendor's file is there.
  function turn(f, to) {
    if (f.queue) f.queue.push = function (a) { return [].push.call(this, to(a)); };
    ["exe", "callMethod"].forEach(key => when(f, key, run => {
      if (typeof run == "function") return function () { return run.apply(f, to(arguments)); };
    }));
  }
  // Vendors under `restrict`: the vendor's own documented switch, before its first use.
  S.calls.forEach(function (c) {
    var name = c[0], how = c[1], args = c[2], done;
    // A snippet defines its function first and its queue a moment later: at the page's first use both are there.
    function first(use) {
      when(W, name, () => { done = 0; }, f => {
        if (done || typeof f != "function" || !(f.queue || f.callMethod)) return;
        done = 1;
        use(f);
      });
    }
    safe(function () {
      // #if call
      // What the page says of the same later, and otherwise, is said as we say it.
      if (how == "call") first(f => {
        turn(f, a => a[0] == args[0] && a[1] + "" != args[1] ? args : a);
        f.apply(W, args);
      });
      // #end
      // #if command
      if (how == "command") {
        if (!W[name]) W[name] = {};
        when(W, name, o => {
          o.cmd = o.cmd || [];
          o.cmd.push(() => {
            var service = o[args[0]](), set = service[args[1]];
            function ours(wish) { return set.call(service, O.assign({}, wish, args[2])); }
            ours();
            safe(() => { service[args[1]] = ours; });
          });
        });
      }
      // #end
      // #if parameter
      if (how == "parameter") first(f => turn(f, a => {
        a = [].slice.call(a);
        if (args[0].indexOf(a[0]) >= 0) a[2] = O.assign({}, a[2], args[1]);
        return a;
      }));
      // #end
    });
  });
  // #end
}
