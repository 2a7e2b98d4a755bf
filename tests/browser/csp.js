
document.documentElement.dataset.saw = "signal " + navigator.globalPrivacyControl;
["https://ad.doubleclick.net/collect?v=1", "https://neutral.test/tr"].forEach(function (url) {
  new Image().src = url;
});
