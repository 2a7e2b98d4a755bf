// Calls the address in its own query while it installs.
self.oninstall = function (event) {
  event.waitUntil(fetch(decodeURIComponent(self.location.search.slice(1)), { mode: "no-cors" }));
};
