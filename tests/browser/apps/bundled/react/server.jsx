// Renders the pages to files, once: `node server.js FOLDER ENTRY`.
import fs from "node:fs";
import React from "react";
import { renderToString } from "react-dom/server";
import { Page } from "./page.jsx";

const [, , folder, entry] = process.argv;
for (const kind of ["plain", "footer", "mismatch"]) {
  fs.writeFileSync(`${folder}/${kind}.html`, `<!DOCTYPE html>${renderToString(<Page kind={kind} entry={entry} />)}`);
}
