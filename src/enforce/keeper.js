// Puts the line with the opt-out link back when the page's own scripts drop it: frameworks that take over the
// whole document do so when they find what they did not render, and page changes that replace the body.
//
// It looks when the page has changed, 50 ms later; until then it watches nothing, so that a busy page has no
// records made for it. A copy of the line that the page made counts as the line. A page that drops the line 20
// times in a row, each time within a second of its return, keeps it out; then nothing is watched any more.
// Browsers without an observer, or that cannot tell what is connected, are left alone.
//
// A framework that hydrates compares the page with its own tree. What stands behind the body's own children it lets be;
// in a footer of its own the line would be a mismatch, and the whole page be rendered anew. So where a framework's marks
// are on the page, the line waits there: out of the footer at once, behind the body's children when all of the markup is
// there, which is before deferred scripts and modules run. The marks are those of Next, Nuxt, Gatsby, SvelteKit, Remix
// and React Router, Angular, and Vue.
//
// A page that the back/forward cache shows again, as it stood before its visitor opted out, is loaded anew: one that
// was opted out read `true` when it came, and what says so since is the browser or the cookie of ours. Not by `reload`,
// which would post again what a page is the answer to.
(function (d, l, n, t, o, p, k) {
  function look() {
    try {
      o = o || new MutationObserver(function () {
        o.disconnect();
        setTimeout(look, 50);
      });
      if (l.isConnected === false && d.body && !(l = d.querySelector("p.ogc-line") || l).isConnected) {
        if (Date.now() - t > 1e3) n = 20;
        if (!n--) return;
        t = Date.now();
        d.body.appendChild(l);
      }
      o.observe(d, { childList: true, subtree: true });
    } catch (e) {}
  }
  function aside() {
    try {
      if (l.parentNode != d.body && d.querySelector('[src*="/_next/"],#__next,#__nuxt,#___gatsby,[href*="/_app/immutable/"],[href*="entry.client"],[ng-server-context],[data-server-rendered]')) {
        l.remove();
        k.remove();
        return 1;
      }
    } catch (e) {}
  }
  k = d.currentScript;
  if (!aside()) look();
  d.addEventListener("readystatechange", function () {
    if (aside()) {
      d.body.appendChild(l);
      look();
    }
  }, { once: true });
  p = navigator.globalPrivacyControl;
  addEventListener("pageshow", function (e) {
    try {
      if (e.persisted && !p && (navigator.globalPrivacyControl || d.cookie.match("usprivacy=1.Y")))
        location.replace(location.href.split("#")[0]);
    } catch (e) {}
  });
})(document, document.querySelector("p.ogc-line"), 0, 0);
