
document.documentElement.dataset.saw = "signal " + navigator.globalPrivacyControl;
["https://www.facebook.com/tr?id=1", "https://neutral.test/tr"].forEach(function (url) {
  new Image().src = url;
});
