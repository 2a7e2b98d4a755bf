// Who is a tracker. The table and the rules are the registry's: see registry/verdicts.rs and table.rs.
var { getOwnPropertyDescriptor: descriptor, defineProperty: define, getPrototypeOf, apply, construct } = Reflect;
// A page may put functions of its own on prototypes: what is needed of them later is taken now.
var [test, exec, replace, split, cut, find, lower, codeAt, forEach, map, some, filter, join] =
  "test exec replace split slice indexOf toLowerCase charCodeAt forEach map some filter join".split(" ").map(key =>
    define.call.bind(/./[key] || ""[key] || [][key]));
// An element's name may hide what a document has of that name, and a page may put getters of its own in their places.
var hrefOf = define.call.bind(descriptor(W.URL.prototype, "href").get), baseOf = D && define.call.bind(descriptor(W.Node.prototype, "baseURI").get);
var nativeURL = W.URL, decoded = W.decodeURIComponent, later = W.setTimeout.bind(W);
var MARK = Symbol.for("optgate");
var nodes = {}, hashes = {}, blocked = {}, sum = 0, gap = 0;
[...TABLE].reverse().join("").split(" ").forEach(line => {
  var [name, ...rules] = line.split("#"), essential = name[0] == "!";
  nodes[essential ? name.slice(1) : name] = {
    essential,
    rules: rules.map(rule => ({
      // A path that goes is written without its first slash.
      strips: rule[0] != "/",
      // A prefix ends at `/`, `?`, `;` or the end; `*` stands for any run of the path.
      path: new RegExp("^/?" + rule.split("*").map(literal).join("[^?]*") + (/[*\/]$/.test(rule) ? "" : "(?=[/?;]|$)"))
    })),
    all: /^\/?$/.test(rules[rules.length - 1])
  };
});
for (var at = 0, code; code = NAMES.charCodeAt(at); at++) {
  gap = gap * 85 + (code - 9 - (code > 60) - (code > 62) - (code > 92)) % 85;
  if (at % 4 == 3) {
    hashes[sum += gap] = 1;
    gap = 0;
  }
}
var wild = anyOf(PATTERNS), stays = anyOf(KEPT);
// Where this page or worker stands; `E` is the page's origin in a worker that was made of a text.
var here = D && /^http/.test(D.location) ? D.location : new nativeURL(D ? D.baseURI : E || W.location, "http://x");
var own = here.hostname, assets = ASSETS.replace(/^(?=\/)/, here.origin);

// Names with `*` for any run of characters.
function anyOf(list) {
  return new RegExp(list ? "^(?:" + list.split(" ").map(name => name.split("*").map(literal).join(".*")).join("|") + ")$" : "(?!)");
}

function literal(text) {
  return text.replace(/\W/g, "\\$&");
}

// Whether a name goes; its kind stands before it: `.` domain, `=` cookie, `$` storage key.
function goes(name) {
  var hash = 0, add = code => Math.imul(hash ^ code, 0x1000193) >>> 0;
  for (var at = 0; at < name.length; at++) {
    hash = add(codeAt(name, at));
    if (name[0] != "." && hashes[add(42)] && !test(stays, name)) return true;
  }
  return (hashes[hash] || test(wild, name)) && !test(stays, name);
}

// Most specific domain, then longest path. Without a path: hints and sockets.
function verdict(host, path) {
  for (var rest; ; host = rest[1]) {
    if (goes("." + host)) return true;
    var node = nodes[host], rule;
    if (node) {
      for (var at = 0; rule = node.rules[at++];) if (path ? test(rule.path, path) : rule.strips && !node.essential) return rule.strips;
      if (!path && (node.all || node.essential)) return;
    }
    rest = exec(/\.(.*)/, host);
    if (!rest) return;
  }
}

// Whether a reference leads to a tracker; the page's own host never does.
function tracker(reference, hint) {
  var url;
  try {
    // Of a scheme and a host without slashes: the base that would make a path of it may change.
    url = hrefOf(new nativeURL(replace(bare(reference), /^(https?:)[\\\/]*/i, "$1//"), D ? baseOf(D) : here.href));
  } catch (e) {
    return;
  }
  var [, scheme, host, path, query] = exec(/^(https?|wss?|ftp):\/\/(?:[^\/]*@)?([^\/]+?)\.?(?::\d+)?(\/[^?#]*)([^#]*)/, url) || "";
  if (!host || host == own) return;
  // A path as it is commonly written: nothing as `%xx` that stands for itself, no slash twice.
  var found = verdict(host, hint || scheme[0] == "w" ? "" :
    replace(replace(path, /%\w\w/g, all => exec(/[\w.~-]/, unescape(all)) || all), /\/+/g, "/") + query);
  if (found) blocked[host] = -~blocked[host];
  return found;
}

// Replaces functions, constructors or halves of accessors of a window or worker, by names with spaces between:
// `name`, or `Kind.name` for what a prototype has.
function hooks(W) {
  return (names, before, after, half) => forEach(split(names, " "), name => {
    var [kind, key] = split(name, ".");
    patch(key ? W[kind]?.prototype : W, key || kind, before, after, half);
  });
}

// Replaces one of them. `before` may change the arguments, or answer with a list of one; `after` may change
// the answer. Of an accessor it is the setter, unless `half` says "get". What fails in them is ours and never the
// page's: what could not be judged does not happen.
function patch(owner, key, before, after, half) {
  var found;
  // A worker has its functions from its prototype.
  while (owner && !(found = descriptor(owner, key))) owner = getPrototypeOf(owner);
  var native = found && found[half ||= found.set ? "set" : "value"];
  if (typeof native != "function") return;
  var around = (self, args, run) => {
    var answer;
    try {
      answer = before && before(self, args, native);
    } catch (e) {
      return;
    }
    if (answer) return answer[0];
    answer = run();
    try {
      if (after) answer = after(answer, self, args);
    } catch (e) {}
    return answer;
  };
  found[half] = new Proxy(native, {
    apply: (_, self, args) => around(self, args, () => apply(native, self, args)),
    construct: (_, args, target) => around(target, args, () => construct(native, args, target))
  });
  define(owner, key, found);
  // What a constructor made names it.
  owner = native.prototype;
  if (owner?.constructor == native) define(owner, "constructor", found);
}
