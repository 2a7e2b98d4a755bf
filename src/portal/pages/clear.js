// After an opt-out: a service worker, and pages it keeps, may still hold what was opted out of.
(async () => {
  "use strict";
  const each = async (list, act) => {
    for (const item of await list) {
      try { await act(item); } catch { /* the others may still go */ }
    }
  };
  try {
    if ("serviceWorker" in navigator) {
      await each(navigator.serviceWorker.getRegistrations(), (worker) => worker.unregister());
    }
  } catch { /* not allowed here */ }
  try {
    if ("caches" in self) {
      await each(caches.keys(), async (name) => {
        const cache = await caches.open(name);
        await each(cache.keys(), async (request) => {
          const kept = await cache.match(request, { ignoreVary: true });
          const type = (kept && kept.headers.get("content-type")) || "";
          if (/^\s*(text\/html|application\/xhtml\+xml)/i.test(type)) {
            await cache.delete(request, { ignoreVary: true });
          }
        });
      });
    }
  } catch { /* not allowed here */ }
})();
