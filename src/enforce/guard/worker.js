// In workers: the same connections, and nothing else.
if (!D) {
  if (!W[MARK]) {
    define(W, MARK, { value: 1 });
    network(W);
  }
  return;
}
