import { useEffect, useState } from "react";

export default function First() {
  const [count, setCount] = useState(0);
  useEffect(() => {
    document.documentElement.dataset.hydrated = "yes";
  }, []);
  const press = () => {
    setCount(count + 1);
    fetch("https://ad.doubleclick.net/collect", { mode: "no-cors", keepalive: true });
  };
  return (
    <main id="first">
      <h1>First</h1>
      <img alt="" src="https://www.facebook.com/tr?id=1&ev=ViewContent" />
      <button id="count" onClick={press}>
        Pressed {count}
      </button>
    </main>
  );
}
