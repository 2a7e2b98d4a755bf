import * as braze from "@braze/web-sdk";
import { callback, done } from "../../bundled/vendors/kit";

braze.initialize("00000000-0000-0000-0000-000000000000", { baseUrl: "sdk.iad-01.braze.com" });
braze.changeUser("visitor");
braze.openSession();
braze.logCustomEvent("made", { n: 1 });
done({ flushed: callback((flushed) => braze.requestImmediateDataFlush(flushed)) });
