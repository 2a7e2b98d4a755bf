// Calls the address behind its own `#`, then says so.
fetch(self.location.hash.slice(1), { mode: "no-cors" }).then(function () { postMessage(1); });
