// In workers: the same connections, and nothing else.
if (!D) {
  if (!W[MARK]) {
    W[MARK] = 1;
    network(W);
  }
  return;
}
