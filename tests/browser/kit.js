// What the pages of vectors/ share. Each page makes the same attempt twice: first at a tracker, then at
// its twin, a host that nobody strips. The twin's arrival says that the attempt works, and when.
function addresses(box, image, script, style, frame, other) {
  return {
    // A selector of its own: a later rule for the same box would replace the earlier one.
    box: box,
    image: image,
    script: script,
    style: style + "/own.css",
    font: style + "/own.woff2",
    media: image + "&media",
    data: other + "/collect?v=1",
    frame: frame,
    host: other,
    socket: other.replace("https:", "wss:") + "/socket",
    name: other.replace("https://", "")
  };
}

var tracker = addresses(
  "html",
  "https://www.facebook.com/tr?id=1",
  "https://connect.facebook.net/en_US/fbevents.js",
  "https://static.criteo.net",
  "https://fls.doubleclick.net/activityi;src=1",
  "https://ad.doubleclick.net"
);
var twin = addresses(
  "body",
  "https://neutral.test/tr?id=1",
  "https://neutral.test/own.js",
  "https://neutral.test",
  "https://neutral.test/frame",
  "https://neutral.test"
);

// An attempt that leads away from the page is made `alone`.
function attempt(make, alone) {
  function one(urls) {
    return new Promise(function (resolve) {
      setTimeout(function () {
        var result;
        // An exception of the attempt is the page's: nobody catches it.
        try { result = make(urls); } finally { Promise.resolve(result).finally(resolve); }
        // A page in no window is laid out only when somebody asks for a measure.
        document.documentElement.offsetWidth;
      }, 0);
    });
  }
  window.done = one(tracker).then(function () { return alone || one(twin); });
}

// A frame is there, loaded and empty. It is found by its name when it has it from the beginning.
function emptyFrame(name) {
  var frame = document.createElement("iframe");
  frame.name = name || "";
  document.body.append(frame);
  return frame;
}
