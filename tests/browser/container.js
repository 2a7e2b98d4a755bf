// A tag manager's container of our own. It tells what the data layer held when it came, puts in the tags that it was
// given as HTML, as such containers do (markup, then each script made anew so that it runs), and one by script.
(function () {
  var layer = window.dataLayer || [];
  window.found = layer.map(function (one) { return one.event || [].slice.call(one, 0, 2).join(" "); });
  window.denied = layer.filter(function (one) { return one[0] === "consent"; }).map(function (one) { return one[2]; })[0];
  function tag(html) {
    var box = document.createElement("div");
    box.innerHTML = html;
    [].forEach.call(box.querySelectorAll("script"), function (old) {
      var script = document.createElement("script");
      if (old.src) script.src = old.src;
      script.text = old.text;
      old.parentNode.replaceChild(script, old);
    });
    document.body.appendChild(box);
  }
  tag("<script>window.fbq = window.fbq || function () { (fbq.queue = fbq.queue || []).push(arguments); }; fbq('init', '1');<\/script>" +
    "<script src='https://connect.facebook.net/en_US/fbevents.js'><\/script>");
  tag("<img src='https://www.facebook.com/tr?id=1&ev=PageView'><iframe src='https://fls.doubleclick.net/activityi;src=1'></iframe>");
  tag("<script>new Image().src = 'https://ad.doubleclick.net/activity;src=1'; fetch('https://www.clarity.ms/collect', { method: 'POST', mode: 'no-cors' });<\/script>");
  tag("<script>new Image().src = 'https://neutral.test/tag';<\/script>");
  var late = document.createElement("script");
  late.src = "https://bat.bing.com/bat.js";
  document.head.appendChild(late);
  dataLayer.push({ event: "container.ready" });
})();
