// Puts the line with the opt-out link back when the page's own scripts drop it: frameworks that take over the
// whole document do so when they find what they did not render, and page changes that replace the body.
//
// It looks when the page has changed, 50 ms later; until then it watches nothing, so that a busy page has no
// records made for it. A copy of the line that the page made counts as the line. A page that drops the line 20
// times in a row, each time within a second of its return, keeps it out; then nothing is watched any more.
// Browsers without an observer, or that cannot tell what is connected, are left alone.
//
// A page that the back/forward cache shows again, as it stood before its visitor opted out, is loaded anew: one that
// was opted out read `true` when it came, and what says so since is the browser or the cookie of ours. Not by `reload`,
// which would post again what a page is the answer to.
(function (d, l, n, t, o, p) {
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
  look();
  p = navigator.globalPrivacyControl;
  addEventListener("pageshow", function (e) {
    try {
      if (e.persisted && !p && (navigator.globalPrivacyControl || d.cookie.match("usprivacy=1.Y")))
        location.replace(location.href.split("#")[0]);
    } catch (e) {}
  });
})(document, document.querySelector("p.ogc-line"), 0, 0);
