// Third parties that nobody knows go, too (`unknown = "strip"`): see registry/unknown.rs. Only such policies have this.
var named = verdict, metByName = met, lax;
// Domains with all that is below them: those that stay whatever else is said of their host, and the registry's.
var [ours, staying] = map(split(join([...KNOWN].reverse(), ""), "/"), names => {
  var set = { __proto__: null };
  forEach(split(names, " "), name => set[name] = 1);
  return set;
});
// What is one site with the page: it stands at the guard's element, and behind the origin that a worker is given.
var site = (D ? E && E.getAttribute("data-site") : replace(here.hash, "#", "")) || own;
ours[site] = 1;
REPORT = replace(REPORT, /^(?=\/)/, here.origin);
here = { href: here.href, origin: here.origin + "#" + site };

verdict = (host, path) => {
  var found = named(host, path);
  var under = names => {
    for (var rest = [0, host]; rest; rest = exec(/\.(.*)/, rest[1])) if (names[rest[1]]) return true;
  };
  return found !== undefined || lax || under(ours) ? found : named(host, "") || !under(staying);
};

// Asks for those with a name alone.
function laxly(ask, one, two, three) {
  lax = true;
  try {
    return ask(one, two, three);
  } finally {
    lax = false;
  }
}

// Of words that may be anything, these are hosts: servers of a connection, a peer with a name, and who signs in.
met = text => {
  var found = laxly(metByName, text);
  replace(text + "", /(?:https?:\/\/|(?:stun|turn)s?:|"rp(?:Id":|":\{[^}]*"id":)"|candidate:(?:\S+\s+){4}(?!\S+\.local\b)(?=\S*\.[a-z]))(\[[^\s"]+?\]|[^\s"?,:\/\\]+)/gi, (all, host) => {
    if (tracker("wss://" + host)) found = true;
  });
  return found;
};

// What a base leads to is judged by itself, and links lead where they like.
if (D) {
  var judged = value;
  value = (element, name, given) => kind(element) == "base" ? laxly(judged, element, name, given) : judged(element, name, given);
}
