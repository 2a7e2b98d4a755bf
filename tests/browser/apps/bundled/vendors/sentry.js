import * as Sentry from "@sentry/browser";
import { done } from "./kit";

Sentry.init({ dsn: "https://0123456789abcdef0123456789abcdef@o1.ingest.us.sentry.io/1", tracesSampleRate: 1 });
Sentry.captureMessage("made");
done({ flushed: Sentry.flush(2000), closed: Sentry.flush(2000).then(() => Sentry.close(2000)) });
