import { Counter } from "./counter";

export default function First() {
  return (
    <main id="first">
      <h1>First</h1>
      <img alt="" src="https://www.facebook.com/tr?id=1&ev=ViewContent" width="1" height="1" />
      <Counter />
    </main>
  );
}
