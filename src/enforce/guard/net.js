// Connections that script opens, in windows and workers alike. A blocked one fails softly.
// Its own text, for the documents and workers that a page makes itself.
var GUARDED = `(${GUARD})(`, quoted = JSON.stringify;
var createURL = nativeURL.createObjectURL, blobs = new Map(), made = {}, head;
// What is known of an object: a blob's text, of a document what `write` left unfinished, of a style's stand-in the style,
// of a list of words its link, and of an element that it has lost an address.
var notes = new WeakMap();
var KINDS = /html|xml|css|script|mpegurl/i;
var trusted = { createHTML: text => text, createScriptURL: text => text, createScript: text => text };
try {
  trusted = W.trustedTypes.createPolicy("optgate", trusted);
} catch (e) {}

function unescaped(text) {
  try {
    return decoded(text);
  } catch (e) {
    return unescape(text);
  }
}

// An address without what browsers, style sheets and scripts leave out of it.
function bare(url) {
  return replace(url + "", /^[\0- ]+|[\0\t\n\r\f\u2028\u2029]/g, "");
}

// A text of a style, a script or JSON without its escapes. None of them throws, and of 16 bits is enough.
function plainText(text) {
  return replace(text, /\\(?:u\{(\w+)\}|u(\w{4})|x(\w\w)|([\da-f]{1,6})\s?|\r\n|[^])/gi, (all, one, two, three, four) =>
    (one = one || two || three || four) ? String.fromCharCode(parseInt(one, 16)) : cut(all, 1));
}

// Of a `data:` address its type, what it holds, and what follows that.
function unpacked(url) {
  var found = exec(/^data:([^,]*),([^#]*)([^]*)/i, url);
  var [, type, body, rest] = found || "";
  type = replace(type || "", /\s/g, "");
  if (!found || type && !test(KINDS, type)) return;
  body = unescaped(body);
  try {
    return [split(type, ";")[0], test(/;base64$/i, type) ? unescaped(escape(W.atob(body))) : body, rest];
  } catch (e) {}
}

// What takes the place of a tracker's file: it loads, and so nothing on the page waits in vain.
function standIn(tag) {
  return test(/^(i?frame|object|embed)$/, tag) ? "about:blank"
    : trusted.createScriptURL(assets + (tag == "script" ? "js" : tag == "link" ? "css" : "gif"));
}

// Style text, and any other text that may hold addresses: those of trackers are replaced. Escapes that
// hide one cost the whole text.
function css(given, standIn) {
  var text = given + "", sheets = /data:\s*text\/css(?:[^,]*base64,[\w+\/=%\s]*)?/gi, url = /(?<![^\0- "'`(,;>])(?:(?:https?|wss?):|[\\\/]{2})[^\s"'()<>]*[^\s"'()<>,]/gi;
  if (!test(/[:\\]|\/\s*\//, text)) return given;
  // A prefix of an import map ends in a slash, and the rest of an address is added to it.
  var clean = replace(text, url, found => tracker(found, standIn && test(/\/$/, found)) ? assets + (standIn || "gif") : found);
  text = bare(plainText(clean));
  if (replace(text, url, found => tracker(found) ? "" : found) != text) return "";
  // Sheets in addresses, as they are written there.
  if (test(sheets, text) && (text = unescaped(replace(url = text, sheets, sheet => (unpacked(sheet) || [, sheet])[1]))) != url && css(text) != text) return "";
  return clean == given ? given : clean;
}

// A value that is no text cannot be cleaned, and goes.
function judge(self, args) {
  return some(args, (given, at) => (args[at] = css(given)) !== given && typeof given == "object") && [];
}

// Frames of an animation, pictures of a notification, and other settings. Paths behind a base may be anything; what is
// inherited may be functions, which nobody could copy.
function settings(given) {
  var clean = {};
  if (!given || typeof given != "object" || given.toString && !given[Symbol.iterator] && !test(/^\[object O/, given)) return given?.call ? 0 : css(given);
  if (given[Symbol.iterator]) return map([...given], settings);
  for (var key in given) clean[key] = key == "baseURL" && tracker(given[key], 1) ? "" : settings(given[key]);
  return clean;
}

// Cleans the settings at this place. What is not given must not come to be there.
function cleans(at) {
  return (self, args) => void (args[at] &&= settings(args[at]));
}

// Whether a text names a tracker's host.
function met(text) {
  return some(split(text + "", /[\s":?,]/), word => tracker("wss://" + word));
}

function network(W) {
  var { Response, Promise, Blob } = W;
  var nothing = Promise.resolve(), hook = hooks(W);
  // An address, or a request of any window.
  var asked = input => tracker(input) || tracker(input?.url);
  define(getPrototypeOf(W.navigator), "globalPrivacyControl", { get: () => true, configurable: true, enumerable: true });
  // Who reads the answer takes it for JSON; with less in it Segment's loader would have all that wait for it wait on.
  hook("fetch", (self, [input]) => asked(input) && [Promise.resolve(new Response('{"integrations":{}}'))]);
  hook("fetchLater", (self, [input]) => asked(input) && [{}]);
  hook("Navigator.sendBeacon", (self, [url]) => tracker(url) && [true]);
  // What fails by itself, without a connection.
  var instead = (other, hint) => (self, args) => {
    if (tracker(args[0], hint)) args[0] = other;
  };
  // Who waits for an answer on the spot would have an exception instead.
  hook("XMLHttpRequest.open", (self, args) => {
    if (tracker(args[1])) args[1] = args[2] || args.length < 3 ? "data:" : "data:,";
  });
  hook("EventSource", instead("data:,"));
  hook("WebSocket WebSocketStream", instead("wss://0:0", 1));
  hook("WebTransport", instead("https://0:0", 1));
  hook("Worklet.addModule", (self, args) => void (args[0] = address(null, "script", args[0])));
  hook("CookieStore.set", (self, [cookie]) => goes("=" + (cookie.name || cookie)) && [nothing]);
  hook("Cache.add Cache.addAll", (self, [inputs]) => some([inputs].flat(), asked) && [nothing]);
  hook("BackgroundFetchManager.fetch", (self, [, inputs]) => some([inputs].flat(), asked) && [new Promise(() => {})]);
  // Who says who the visitor is.
  hook("CredentialsContainer.get CredentialsContainer.create", (self, args) => met(quoted(args)) && [nothing]);
  // A service worker leads by its answers, too.
  hook("ServiceWorkerRegistration.showNotification Response", cleans(1));
  patch(W.Response, "redirect", instead(assets + "gif"));
  hook("Worker SharedWorker", worker);
  hook("FontFace Audio", (self, args) => void judge(self, args));
  hook("importScripts", (self, args) => forEach(args, (url, at) => {
    if (tracker(url)) args[at] = standIn("script");
  }));
  // What `import` is given at run time passes here first, where the server could change what it is given, or `imports`
  // the call.
  define(W, "optgateImport", { value: function judged(given, one, two) {
    return given?.call ? given(judged(one), two) : tracker(given) ? assets + "mjs" : given;
  } });
  patch(W.URL, "createObjectURL", (self, args) => D && shown(args), (url, self, [blob]) => blobs.set(url, blob) && url);
  patch(W.URL, "revokeObjectURL", (self, [url]) => void blobs.delete(url + ""));

  // The site's own worker scripts have their guard from the server. Others get it here, before their text: the
  // page's policy may admit no other file. What a module imports is run before it, so there it is imported, too: from
  // an address that the page does not take back.
  function worker(self, args) {
    var url = bare(D ? address(null, "script", args[0]) : args[0]), module = args[1]?.type == "module";
    var data = unpacked(url), blob = blobs.get(url), text = data ? data[1] : notes.get(blob), begin = `${GUARDED}self,"",${quoted(here.origin)});`;
    var link = parts => trusted.createScriptURL(data ? "data:text/javascript," + encodeURIComponent(join(parts, ""))
      : createURL(new Blob(parts, { type: "text/javascript" })));
    if (tracker(url)) args[0] = standIn("script");
    // One address, one shared worker.
    if (test(/^(blob|data):/i, url)) args[0] = made[module + url] ||= link(
      module && test(/\bimport\b|^undefined$/, text) ? [`import ${quoted(link([begin]))};import ${quoted(blob ? link([blob]) : url)}`]
        : [data ? begin : head ||= new Blob([begin]), data ? text : blob || `importScripts(${quoted(url)})`]);
  }
}
