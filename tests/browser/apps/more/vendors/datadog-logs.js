import { datadogLogs } from "@datadog/browser-logs";
import { done } from "../../bundled/vendors/kit";

datadogLogs.init({ clientToken: "pub0123456789abcdef", site: "datadoghq.com", service: "made-up", sessionSampleRate: 100 });
datadogLogs.logger.info("made", { n: 1 });
done();
