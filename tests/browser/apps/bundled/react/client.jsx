// Takes the whole document over. What React has to say goes where it goes on a site that says nothing about it.
import React from "react";
import { hydrateRoot } from "react-dom/client";
import { Page } from "./page.jsx";

const { kind } = document.documentElement.dataset;
hydrateRoot(document, <Page kind={kind} entry={new URL(import.meta.url).pathname} />);

// The page is done when it has its effects.
window.done = new Promise((resolve) => {
  (function look() {
    document.documentElement.dataset.step ? resolve() : setTimeout(look, 10);
  })();
});
