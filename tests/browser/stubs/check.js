// The small harness of the pages beside it: one line `PASS name` or `FAIL name: why` for each check, and
// `DONE n` when all have ended.
"use strict";
var checks = [];

// Registers a check; it may return a promise.
function check(name, run) {
  checks.push([name, run]);
}

function must(holds, why) {
  if (!holds) throw new Error(why || "does not hold");
}

// Resolves when `start(resolve)` calls back; nothing may call back before `start` has returned.
function called(start, what) {
  return new Promise(function (resolve, reject) {
    var inside = true;
    setTimeout(function () { reject(new Error((what || "callback") + " was not called")); }, 5000);
    start(function () {
      if (inside) reject(new Error((what || "callback") + " was called at once"));
      resolve(arguments);
    });
    inside = false;
  });
}

// Runs a snippet as a classic script of its own and gives how many script elements it made, and the error.
var made = [];
var createElement = document.createElement;
document.createElement = function (name) {
  var element = createElement.apply(document, arguments);
  if (String(name).toLowerCase() === "script") made.push(element);
  return element;
};
function attempt(code) {
  var before = made.length, script = createElement.call(document, "script"), failure;
  window.onerror = function (message) { failure = message; };
  script.text = code;
  document.head.appendChild(script);
  window.onerror = null;
  return { made: made.length - before, failure: failure };
}

// As `attempt`, for snippets that must not throw.
function snippet(code) {
  var result = attempt(code);
  must(!result.failure, result.failure);
}

addEventListener("load", async function () {
  var out = document.getElementById("out");
  for (var i = 0; i < checks.length; i++) {
    var line = "PASS " + checks[i][0];
    try {
      await checks[i][1]();
    } catch (e) {
      line = "FAIL " + checks[i][0] + ": " + (e && e.message || e);
    }
    out.textContent += line + "\n";
  }
  out.textContent += "DONE " + checks.length + "\n";
});
