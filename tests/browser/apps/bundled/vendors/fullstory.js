import { FullStory, init } from "@fullstory/browser";
import { callback, done } from "./kit";

const ready = callback((ready) => init({ orgId: "o-OPTGATE-na1" }, ready));
FullStory("setIdentity", { uid: "visitor" });
FullStory("trackEvent", { name: "made", properties: { n: 1 } });
done({ ready, url: FullStory("getSessionAsync", { format: "url" }) });
