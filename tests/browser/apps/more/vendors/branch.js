import branch from "branch-sdk";
import { callback, done } from "../../bundled/vendors/kit";

const begun = callback((begun) => branch.init("key_live_optgateoptgateoptgateoptgateoptg", {}, begun));
branch.logEvent("made", { n: 1 });
done({ begun });
