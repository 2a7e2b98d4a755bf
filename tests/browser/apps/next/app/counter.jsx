"use client";

import { useEffect, useState } from "react";
import { sendGAEvent, sendGTMEvent } from "@next/third-parties/google";

// What a component tells trackers, as the guide of `@next/third-parties` has it.
export function Counter() {
  const [count, setCount] = useState(0);
  useEffect(() => {
    document.documentElement.dataset.hydrated = "yes";
  }, []);
  const press = () => {
    setCount(count + 1);
    sendGAEvent("event", "press", { value: count });
    sendGTMEvent({ event: "press", value: count });
    fetch("https://ad.doubleclick.net/collect", { mode: "no-cors", keepalive: true });
  };
  return (
    <button id="count" onClick={press}>
      Pressed {count}
    </button>
  );
}
