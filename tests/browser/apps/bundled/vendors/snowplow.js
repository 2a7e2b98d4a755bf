// A collector is the site's own as a rule; this one is where Snowplow hosts it.
import { newTracker, trackPageView, trackStructEvent } from "@snowplow/browser-tracker";
import { callback, done } from "./kit";

const sent = callback((sent) =>
  newTracker("sp", "https://optgate.collector.snplow.net", {
    appId: "optgate",
    onRequestSuccess: sent,
    onRequestFailure: sent,
  }),
);
trackPageView();
trackStructEvent({ category: "made", action: "up" });
done({ sent });
