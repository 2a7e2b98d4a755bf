// What was there before the visitor opted out, and what is told at the end. Called once, in the page's own window.
function before() {
  function sweep() {
    ["localStorage", "sessionStorage"].forEach(kind => {
      try {
        Object.keys(W[kind]).forEach(key => goes("$" + key) && W[kind].removeItem(key));
      } catch (e) {}
    });
  }
  W.addEventListener("pagehide", () => {
    sweep();
    if (Object.keys(blocked)[0]) W.navigator.sendBeacon(replace(REPORT, /^(?=\/)/, here.origin), JSON.stringify({ v: 1, blocked, slipped }));
    blocked = {};
  });
  sweep();
  D.cookie.split(";").forEach(pair => {
    var name = pair.split("=")[0].trim();
    if (!goes("=" + name)) return;
    var end = name + "=; Max-Age=0; Path=/";
    D.cookie = end;
    // The last label alone is nobody's, and the browser passes it over.
    own.split(".").forEach((label, at, labels) => D.cookie = end + "; Domain=" + labels.slice(at).join("."));
  });
}

// Once in a document, also in a frame's whose window has its guard from the page around it.
if (!D[MARK]) {
  D[MARK] = 1;
  [before, () => signals(W, E?.dataset.gpc), () => stubs(W)].forEach(part => {
    try {
      part();
    } catch (e) {}
  });
}
// A framework that compares the whole document with its own tree must find nothing of ours in the head.
E?.remove();
