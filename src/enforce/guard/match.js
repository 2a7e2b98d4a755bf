// Who is a tracker. The table and the rules are the registry's: see registry/verdicts.rs and table.rs.
var { getOwnPropertyDescriptor: descriptor, defineProperty: define, getPrototypeOf, setPrototypeOf } = Object;
var { apply, construct } = Reflect;
var nativeURL = W.URL, decoded = W.decodeURIComponent, later = W.setTimeout.bind(W);
var MARK = Symbol.for("optgate");
var nodes = Object.create(null), patterns = Object.create(null), blocked = Object.create(null);
TABLE.split("?").join(".").split(" ").forEach(line => {
  var [name, ...paths] = line.split("#"), essential = name[0] == "!";
  nodes[essential ? name.slice(1) : name] = { essential, paths, strips: paths.some(strips), all: /^\/?$/.test(paths[paths.length - 1]) };
});
var hashes = new Set(), sum = 0, gap = 0;
for (var at = 0; at < NAMES.length; at++) {
  var code = NAMES.charCodeAt(at);
  gap = gap * 85 + (code - 9 - (code > 60) - (code > 62) - (code > 92)) % 85;
  if (at % 4 == 3) {
    hashes.add(sum += gap);
    gap = 0;
  }
}
var wild = anyOf(PATTERNS), stays = anyOf(KEPT);

// A path that goes is written without its first slash.
function strips(rule) {
  return rule[0] != "/";
}

// Names with `*` for any run of characters.
function anyOf(list) {
  return new RegExp(list ? "^(?:" + list.split(" ").map(name => name.split("*").map(literal).join(".*")).join("|") + ")$" : "(?!)");
}

function literal(text) {
  return text.replace(/\W/g, "\\$&");
}

// Whether a name goes; its kind stands before it: `.` domain, `=` cookie, `$` storage key.
function goes(name) {
  var hash = 0x811c9dc5, add = code => Math.imul(hash ^ code, 0x1000193) >>> 0;
  for (var at = 0; at < name.length; at++) {
    hash = add(name.charCodeAt(at));
    if (name[0] != "." && hashes.has(add(42)) && !stays.test(name)) return true;
  }
  return (hashes.has(hash) || wild.test(name)) && !stays.test(name);
}

// A prefix ends at `/`, `?`, `;` or the end; `*` stands for any run of the path.
function under(rule, path) {
  var pattern = patterns[rule] = patterns[rule] || new RegExp(
    "^/?" + rule.split("*").map(literal).join("[^?]*") + (/[*\/]$/.test(rule) ? "" : "(?=[/?;]|$)"));
  return pattern.test(path);
}

// Most specific domain, then longest path. Without a path: hints and sockets.
function verdict(host, path) {
  for (var at; ; host = host.slice(at + 1)) {
    if (goes("." + host)) return true;
    var node = nodes[host];
    if (node && !path) {
      if (node.strips && !node.essential) return true;
      if (node.all || node.essential) return false;
    } else if (node) {
      var rule = node.paths.find(rule => under(rule, path));
      if (rule) return strips(rule);
    }
    at = host.indexOf(".");
    if (at < 0) return false;
  }
}

// Whether a reference leads to a tracker; the page's own host never does.
function tracker(reference, hint) {
  var url;
  try {
    url = new nativeURL(reference, base());
  } catch (e) {
    return false;
  }
  var host = url.hostname.replace(/\.$/, "");
  if (host == own || !/^(https?|wss?|ftp):/.test(url.protocol)) return false;
  // A path as it is commonly written: nothing as `%xx` that stands for itself, no slash twice.
  var found = verdict(host, hint || /^ws/.test(url.protocol) ? "" :
    url.pathname.replace(/%(2[de]|3\d|[46][1-9a-f]|[57][\da]|5f|7e)/gi, decoded).replace(/\/+/g, "/") + url.search);
  if (found) blocked[host] = (blocked[host] || 0) + 1;
  return found;
}

// Replaces a function or constructor. `before` may change the arguments, or answer with a list of one;
// `after` may change the answer. What fails in them is ours and never the page's.
function hook(owner, key, before, after) {
  // A worker has its functions from its prototype.
  while (owner && !descriptor(owner, key)) owner = getPrototypeOf(owner);
  var found = owner && descriptor(owner, key);
  if (!found || typeof found.value != "function") return;
  found.value = hooked(found.value, before, after);
  try {
    define(owner, key, found);
  } catch (e) {}
}

function hooked(native, before, after) {
  var around = (self, args, run) => {
    var answer;
    try {
      answer = before && before(self, args, native);
    } catch (e) {}
    if (answer) return answer[0];
    answer = run();
    try {
      if (after) answer = after(answer, self, args);
    } catch (e) {}
    return answer;
  };
  return new Proxy(native, {
    apply: (_, self, args) => around(self, args, () => apply(native, self, args)),
    construct: (_, args, target) => around(native, args, () => construct(native, args, target))
  });
}

// Replaces one half of an accessor, in the same way.
function access(owner, key, half, before, after) {
  var found = owner && descriptor(owner, key);
  if (!found || !found[half] || !found.configurable) return;
  found[half] = hooked(found[half], before, after);
  define(owner, key, found);
}

function privacy(navigator) {
  try {
    define(navigator.prototype, "globalPrivacyControl", { get: () => true, configurable: true, enumerable: true });
  } catch (e) {}
}
