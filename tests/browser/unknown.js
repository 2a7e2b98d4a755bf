// Run in windows, frames and workers: every kind of connection to each host, under a path that says where it was made
// and how. Each try ends, whatever becomes of it.
var hosts = ["stranger.example", "static.site.test", "js.stripe.com", "cdn.known.example"];

function tries(where, ways) {
  return Promise.allSettled(hosts.flatMap(function (host) {
    return Object.keys(ways).map(function (way) {
      return new Promise(function (end) {
        ways[way]("https://" + host + "/" + where + "-" + way, end);
      });
    });
  }));
}

function connections(where) {
  return tries(where, {
    fetch: function (url, end) { fetch(url, { mode: "no-cors" }).then(end, end); },
    request: function (url, end) { fetch(new Request(url, { mode: "no-cors" })).then(end, end); },
    xhr: function (url, end) {
      var request = new XMLHttpRequest();
      request.onloadend = end;
      request.open("GET", url);
      request.send();
    },
    socket: function (url, end) { new WebSocket(url.replace("https", "wss")).onclose = end; },
    events: function (url, end) {
      var source = new EventSource(url);
      source.onerror = function () {
        source.close();
        end();
      };
    },
    font: function (url, end) { new FontFace("own", "url(" + url + ")").load().then(end, end); }
  });
}

function elements(where) {
  function made(name, key, more) {
    return function (url, end) {
      var element = Object.assign(document.createElement(name), more);
      element.onload = element.onerror = end;
      element[key] = url;
      document.body.append(element);
    };
  }
  return tries(where, {
    image: made("img", "src"),
    set: made("img", "srcset"),
    script: made("script", "src"),
    sheet: made("link", "href", { rel: "stylesheet" }),
    frame: made("iframe", "src"),
    markup: function (url, end) {
      var box = document.createElement("p");
      box.innerHTML = "<img alt='' src='" + url + "'>";
      box.firstChild.onload = box.firstChild.onerror = end;
    },
    beacon: function (url, end) { end(navigator.sendBeacon(url)); }
  });
}

function everything(where) {
  return Promise.all([connections(where), elements(where)]);
}

if (typeof document == "undefined") {
  connections(self.name).then(function () {
    hosts.forEach(function (host) {
      try { importScripts("https://" + host + "/" + self.name + "-scripts"); } catch (e) {}
    });
    postMessage(self.name);
  });
}
