import Intercom, { trackEvent } from "@intercom/messenger-js-sdk";
import { done } from "../../bundled/vendors/kit";

Intercom({ app_id: "optgate", user_id: "visitor" });
trackEvent("made", { n: 1 });
done();
