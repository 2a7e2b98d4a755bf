import { AnalyticsBrowser } from "@customerio/cdp-analytics-browser";
import { done } from "../../bundled/vendors/kit";

const analytics = AnalyticsBrowser.load({ writeKey: "optgate" });
done({ page: analytics.page("made"), tracked: analytics.track("made", { n: 1 }) });
