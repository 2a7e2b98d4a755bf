// Calls the address in its own query while it installs; leads to that of a request's.
self.oninstall = function (event) {
  var to = self.location.search.slice(1);
  if (to) event.waitUntil(fetch(decodeURIComponent(to), { mode: "no-cors" }));
};
self.onfetch = function (event) {
  var url = new URL(event.request.url), to = decodeURIComponent(url.search.slice(1));
  if (url.pathname === "/led") event.respondWith(Response.redirect(to));
  if (url.pathname === "/answered") event.respondWith(new Response("", { status: 302, headers: { location: to } }));
};
