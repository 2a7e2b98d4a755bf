// Connections that script opens, in windows and workers alike. A blocked one fails softly.
function network(W) {
  var { Request, Response, Promise, EventTarget, Event } = W;
  var nothing = Promise.resolve();
  var url = Request && descriptor(Request.prototype, "url").get;
  // A request of any window, or an address.
  var asked = input => {
    try {
      return apply(url, input, []);
    } catch (e) {
      return input;
    }
  };
  hook(W, "fetch", (self, [input]) => tracker(asked(input)) && [Promise.resolve(new Response(null, { status: 204 }))]);
  hook(W, "fetchLater", (self, [input]) => tracker(asked(input)) && [{ activated: false }]);
  hook(W.Navigator && W.Navigator.prototype, "sendBeacon", (self, [url]) => tracker(url) && [true]);
  hook(W.XMLHttpRequest && W.XMLHttpRequest.prototype, "open", (self, args) => {
    if (tracker(args[1])) args[1] = "data:,";
  });
  ["WebSocket", "EventSource", "WebTransport", "WebSocketStream"].forEach(kind => {
    hook(W, kind, (native, [url]) => tracker(url, kind != "EventSource") && [dead(native, url)]);
  });
  hook(W.Worklet && W.Worklet.prototype, "addModule", (self, [url]) => tracker(url) && [nothing]);
  hook(W.CookieStore && W.CookieStore.prototype, "set", (self, [cookie]) => goes("=" + (cookie && cookie.name || cookie)) && [nothing]);
  ["add", "addAll"].forEach(key => hook(W.Cache && W.Cache.prototype, key, (self, [inputs]) =>
    [].concat(inputs).some(input => tracker(asked(input))) && [nothing]));
  ["Worker", "SharedWorker"].forEach(kind => hook(W, kind, worker));
  // What `import` is given at run time passes here first, where the server or `imports` could change its call.
  define(W, "optgateImport", { value: given => tracker(given) ? asset("e.js") : given });
  hook(nativeURL, "revokeObjectURL", (self, [url], native) => {
    // The worker behind it reads the script a moment later than its page expects.
    if (lent.has(url + "")) return [later(() => native.call(self, url), 1e4) && undefined];
  });

  // A connection that never came to be.
  function dead(native, url) {
    var target = new EventTarget();
    var state = { url: url + "", readyState: 3, bufferedAmount: 0, protocol: "", extensions: "", withCredentials: false,
      binaryType: "blob", onopen: null, onmessage: null, onerror: null, onclose: null, send() {}, close() {},
      ready: new Promise(() => {}), closed: new Promise(() => {}), opened: new Promise(() => {}) };
    for (var key in state) define(target, key, { value: state[key], writable: true, configurable: true });
    setPrototypeOf(target, native.prototype);
    if (target.dispatchEvent) later(() => ["error", "close"].forEach(type => {
      var event = new Event(type), handler = target["on" + type];
      target.dispatchEvent(event);
      if (typeof handler == "function") handler.call(target, event);
    }));
    return target;
  }

  // The site's own worker scripts have their guard from the server; the others are wrapped here.
  function worker(native, args) {
    var url = address(null, "script", args[0]) + "", guard = asset(WORKER), module = args[1] && args[1].type == "module";
    if (tracker(url)) args[0] = asset("e.js");
    if (!/^\s*(blob|data):/i.test(url)) return;
    var text = module
      ? `import ${JSON.stringify(guard)};import ${JSON.stringify(url)}`
      : `importScripts(${JSON.stringify(guard)});importScripts(${JSON.stringify(url)})`;
    lent.add(url);
    args[0] = /^\s*data:/i.test(url)
      ? "data:text/javascript," + encodeURIComponent(text)
      : createURL(new W.Blob([text], { type: "text/javascript" }));
  }
}
