// Keeps a copy of the page, and answers every visit from it.
self.oninstall = function (event) {
  event.waitUntil(caches.open("shell").then(function (cache) { return cache.add("/shell"); }).then(function () {
    return self.skipWaiting();
  }));
};
self.onactivate = function (event) { event.waitUntil(self.clients.claim()); };
self.onfetch = function (event) {
  if (event.request.mode == "navigate" && new URL(event.request.url).pathname == "/shell") {
    event.respondWith(caches.match("/shell").then(function (kept) { return kept || fetch(event.request); }));
  }
};
