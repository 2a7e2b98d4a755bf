import { AnalyticsBrowser } from "@segment/analytics-next";
import { done } from "./kit";

const analytics = AnalyticsBrowser.load({ writeKey: "optgate" });
done({
  page: analytics.page("made"),
  tracked: analytics.track("made", { n: 1 }),
  identified: analytics.identify("visitor", { plan: "made up" }),
});
