import { RudderAnalytics } from "@rudderstack/analytics-js/bundled";
import { callback, done } from "./kit";

const analytics = new RudderAnalytics();
analytics.load("optgate", "https://optgate.dataplane.rudderstack.com");
analytics.page("made");
done({
  ready: callback((ready) => analytics.ready(ready)),
  tracked: callback((tracked) => analytics.track("made", { n: 1 }, tracked)),
});
