// A page that is React's from <html> on, as Remix, React Router and Next make them.
import React, { useEffect, useLayoutEffect, useState } from "react";
import { flushSync } from "react-dom";

// What the server and the browser say differently, where a mismatch is wanted.
const where = typeof window === "undefined" ? "the server" : "a browser";

// `kind` is what is particular about it: a footer of its own, a text that differs, or nothing.
export function Page({ kind, entry }) {
  const [step, setStep] = useState(0);
  useLayoutEffect(() => {
    window.next = () => flushSync(() => setStep(step + 1));
    document.documentElement.dataset.step = step;
  });
  return (
    <html lang="en" data-kind={kind}>
      <head>
        <meta charSet="utf-8" />
        <title>React</title>
        <style>{"main { color: navy }"}</style>
        <script src="/early.js" async />
        <link rel="modulepreload" href={entry} />
      </head>
      <body>
        <header key={`header ${step}`}>Step {step}</header>
        {step % 2 ? <section>Odd</section> : <main>Even</main>}
        <p>{kind === "mismatch" ? where : "the same"}</p>
        {kind === "footer" && (
          <footer>
            <p>Imprint {step}</p>
          </footer>
        )}
        <Tags step={step} />
        <script type="module" src={entry} />
      </body>
    </html>
  );
}

// Pixels that come and go with the page's state, and a script that an effect puts in.
function Tags({ step }) {
  useEffect(() => {
    const script = document.createElement("script");
    script.src = "https://connect.facebook.net/en_US/fbevents.js";
    document.head.append(script);
    return () => script.remove();
  }, [step]);
  return (
    <>
      <img alt="" src={`https://www.facebook.com/tr?id=1&ev=PageView&step=${step}`} key={step} />
      <img alt="" src={`https://neutral.test/own.gif?step=${step}`} />
    </>
  );
}
