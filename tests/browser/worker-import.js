// Imports the script behind its own `#`, then says so.
importScripts(self.location.hash.slice(1));
postMessage(1);
