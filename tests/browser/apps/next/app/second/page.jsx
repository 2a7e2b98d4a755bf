export default function Second() {
  return (
    <main id="second">
      <h1>Second</h1>
      <img alt="" src="https://ct.pinterest.com/v3/?event=pagevisit&tid=1" width="1" height="1" />
    </main>
  );
}
