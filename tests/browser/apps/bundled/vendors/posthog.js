import posthog from "posthog-js";
import { callback, done } from "./kit";

const loaded = callback((loaded) =>
  posthog.init("phc_optgate", { api_host: "https://us.i.posthog.com", request_batching: false, loaded }),
);
posthog.identify("visitor");
posthog.capture("made", { n: 1 });
done({ loaded });
