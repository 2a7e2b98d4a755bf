// In workers: the same connections, and what only a worker has.
var own = W.location.hostname, lent = new Set();
var origin = W.location.origin, createURL = nativeURL.createObjectURL;
if (!own && /^blob:/.test(W.location.href)) own = new nativeURL(origin).hostname;
function base() {
  return [W.location.href, origin, "http://x"].find(url => /^http/.test(url));
}
function address(element, tag, given) {
  return given;
}
function asset(name) {
  return ASSETS.replace(/^(?=\/)/, origin) + name;
}
if (!W[MARK]) {
  define(W, MARK, { value: 1 });
  privacy(W.WorkerNavigator);
  network(W);
  hook(W, "importScripts", (self, args) => {
    args.forEach((url, at) => {
      if (tracker(url)) args[at] = asset("e.js");
    });
  });
}
