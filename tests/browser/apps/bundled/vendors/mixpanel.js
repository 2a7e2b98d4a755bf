import mixpanel from "mixpanel-browser";
import { callback, done } from "./kit";

mixpanel.init("optgate", { track_pageview: true, batch_flush_interval_ms: 10, record_sessions_percent: 0 });
mixpanel.identify("visitor");
mixpanel.people.set({ plan: "made up" });
done({
  loaded: callback((loaded) => mixpanel.init("second", { loaded }, "second")),
  sent: callback((sent) => mixpanel.track("made", {}, { send_immediately: true }, sent)),
});
