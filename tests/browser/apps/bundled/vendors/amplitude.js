import * as amplitude from "@amplitude/analytics-browser";
import { done } from "./kit";

const begun = amplitude.init("optgate", { autocapture: true, flushIntervalMillis: 10, flushMaxRetries: 1 });
const tracked = amplitude.track("made", { n: 1 });
done({ begun: begun.promise, tracked: tracked.promise, flushed: begun.promise.then(() => amplitude.flush().promise) });
