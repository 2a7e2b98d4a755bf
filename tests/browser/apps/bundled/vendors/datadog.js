import { datadogRum } from "@datadog/browser-rum";
import { done } from "./kit";

datadogRum.init({
  applicationId: "optgate",
  clientToken: "pub0123456789abcdef",
  site: "datadoghq.com",
  service: "made-up",
  sessionSampleRate: 100,
  sessionReplaySampleRate: 0,
  trackUserInteractions: true,
});
datadogRum.addAction("made", { n: 1 });
done();
