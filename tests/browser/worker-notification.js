// Shows a notification with the picture in its own query, which takes a worker that is active.
self.oninstall = function () { self.skipWaiting(); };
self.onactivate = function (event) {
  var picture = decodeURIComponent(self.location.search.slice(1));
  event.waitUntil(self.registration.showNotification("x", { icon: picture }));
};
