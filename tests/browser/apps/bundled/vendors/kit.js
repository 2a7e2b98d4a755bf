// What the vendors' pages share. Each starts its SDK as a site does, tells it of one event, and ends with `done`: what
// the SDK handed out (promises, callbacks), by name. How each of them ended is in `window.ended`.
const LIMIT = 4000;
const GATHERED = 1000;

// A promise of what calls back.
export const callback = (start) => new Promise((resolve) => start(resolve));

export function done(promises = {}) {
  const ended = (window.ended = {});
  const all = Object.entries(promises).map(([name, promise]) => {
    ended[name] = "open";
    const late = new Promise((resolve) => setTimeout(resolve, LIMIT));
    return Promise.race([
      late,
      Promise.resolve(promise).then(
        () => void (ended[name] = "resolved"),
        () => void (ended[name] = "rejected"),
      ),
    ]);
  });
  // Some SDKs gather what they send for a while.
  all.push(new Promise((resolve) => setTimeout(resolve, GATHERED)));
  window.done = Promise.all(all);
}
